package metrics

import (
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// Success is the kind of a call that the vendor accepted; every other kind is a [providers.Kind].
const Success = "success"

// Reasons for a deferral, beside the kinds of fault that close a lane.
const (
	Limit       = "limit"         // the lane's own limits gave no slot
	Urgent      = "urgent"        // an urgent recall took the slot
	Start       = "start"         // a lane that has just opened lets calls in one after the other
	Newer       = "newer_version" // the payload is of a newer version
	Redis       = "redis"         // Redis failed in the middle of the recall
	Shutdown    = "shutdown"      // the worker stopped
	Interrupted = "interrupted"   // asynq took the task away, or the worker that had it died
	Other       = "other"         // none of the known words
)

// Metrics are the metrics of one worker process. Its methods are safe for concurrent use. They expect a lane that was made
// known by [Metrics.Lane].
type Metrics struct {
	registry *prometheus.Registry

	outcomes   *prometheus.CounterVec
	calls      *prometheus.CounterVec
	took       *prometheus.HistogramVec
	pickup     *prometheus.HistogramVec
	deferrals  *prometheus.CounterVec
	held       *prometheus.GaugeVec
	backlog    *prometheus.GaugeVec
	nextExpiry *prometheus.GaugeVec
	redisUp    prometheus.Gauge

	mu     sync.Mutex
	queues []string // of the lanes that are known
}

// New returns metrics without any lane.
func New() *Metrics {
	lane := []string{"provider", "app"}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recallq_outcomes_total",
			Help: "Recalls that ended, by outcome.",
		}, append(lane, "outcome")),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recallq_calls_total",
			Help: "Calls to the provider, by what came of them: success, or the kind of fault.",
		}, append(lane, "kind")),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "recallq_call_duration_seconds",
			Help:    "How long a call to the provider took.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, lane),
		pickup: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "recallq_pickup_seconds",
			Help:    "How long a recall waited from its enqueueing to its first call.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600},
		}, lane),
		deferrals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recallq_deferrals_total",
			Help: "Recalls that were put back without this being an attempt, by reason.",
		}, append(lane, "reason")),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "recallq_lane_held",
			Help: "1 while the lane is held for this reason, else 0.",
		}, append(lane, "reason")),
		backlog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "recallq_lane_backlog_seconds",
			Help: "How long the lane needs for what waits, at its limits.",
		}, lane),
		nextExpiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "recallq_lane_next_expiry_seconds",
			Help: "Until the next recall window of the lane closes; +Inf when nothing waits.",
		}, lane),
		redisUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recallq_redis_up",
			Help: "1 while Redis answers this worker and takes what it writes, else 0.",
		}),
	}
	m.redisUp.Set(1) // the first command tells otherwise
	m.registry.MustRegister(
		m.redisUp, m.outcomes, m.calls, m.took, m.pickup, m.deferrals, m.held, m.backlog, m.nextExpiry,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the metrics in Prometheus's formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Watch adds the figures of the queues, read from rdb at each scrape. It may be called once. The client stays its caller's.
func (m *Metrics) Watch(rdb redis.UniversalClient) {
	m.registry.MustRegister(newQueueCollector(rdb, m.knownQueues))
}

// Lane makes a lane known: every series that it can have is there from now on. Telling it twice does no harm.
func (m *Metrics) Lane(provider, app string) {
	m.Outcomes(provider, app)
	for _, kind := range callKinds() {
		m.calls.WithLabelValues(provider, app, kind)
	}
	for _, reason := range deferralReasons() {
		m.deferrals.WithLabelValues(provider, app, reason)
	}
	for _, reason := range holdReasons() {
		m.held.WithLabelValues(provider, app, reason)
	}
	m.took.WithLabelValues(provider, app)
	m.pickup.WithLabelValues(provider, app)
	m.backlog.WithLabelValues(provider, app)

	m.mu.Lock()
	defer m.mu.Unlock()
	urgent := tasks.Queue(provider, app, tasks.Urgent)
	if slices.Contains(m.queues, urgent) {
		return
	}
	m.queues = append(m.queues, urgent, tasks.Queue(provider, app, tasks.Bulk))
	m.nextExpiry.WithLabelValues(provider, app).Set(math.Inf(1))
}

// Outcomes has a lane's outcomes counted from zero, also one that this worker does not serve: a series that begins with its first
// outcome never increases. Telling it twice does no harm.
func (m *Metrics) Outcomes(provider, app string) {
	for _, outcome := range tasks.Outcomes() {
		m.outcomes.WithLabelValues(provider, app, outcome)
	}
}

func (m *Metrics) knownQueues() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.queues)
}

// Outcome counts a recall that ended.
func (m *Metrics) Outcome(provider, app, outcome string) {
	m.outcomes.WithLabelValues(provider, app, known(outcome, tasks.Outcomes())).Inc()
}

// Call counts a call to the provider. kind is [Success] or a [providers.Kind].
func (m *Metrics) Call(provider, app, kind string, took time.Duration) {
	m.calls.WithLabelValues(provider, app, known(kind, callKinds())).Inc()
	m.took.WithLabelValues(provider, app).Observe(took.Seconds())
}

// Pickup notes how long a recall waited from its enqueueing to its first call. Two clocks can make that negative: it is
// then zero.
func (m *Metrics) Pickup(provider, app string, waited time.Duration) {
	m.pickup.WithLabelValues(provider, app).Observe(max(waited, 0).Seconds())
}

// Deferral counts a recall that was put back. reason is one of this package's or a [providers.Kind].
func (m *Metrics) Deferral(provider, app, reason string) {
	m.deferrals.WithLabelValues(provider, app, known(reason, deferralReasons())).Inc()
}

// LaneHeld says whether the lane is held and why. A lane has one hold at a time: when it is held for one reason the others
// are taken back, and when it is not held all are, whatever the reason given.
func (m *Metrics) LaneHeld(provider, app, reason string, held bool) {
	reason = known(reason, holdReasons())
	for _, r := range holdReasons() {
		value := 0.0
		if held && r == reason {
			value = 1
		}
		m.held.WithLabelValues(provider, app, r).Set(value)
	}
}

// SetBacklog says how long the lane needs for what waits, at its limits.
func (m *Metrics) SetBacklog(provider, app string, seconds float64) {
	m.backlog.WithLabelValues(provider, app).Set(seconds)
}

// SetNextExpiry says how long it is until the next recall window of the lane closes. Give +Inf when nothing waits, so that an
// alert on a small value stays quiet.
func (m *Metrics) SetNextExpiry(provider, app string, seconds float64) {
	m.nextExpiry.WithLabelValues(provider, app).Set(seconds)
}

// RedisUp says whether Redis answers, and takes what is written.
func (m *Metrics) RedisUp(up bool) {
	m.redisUp.Set(0)
	if up {
		m.redisUp.Set(1)
	}
}

func callKinds() []string {
	kinds := []string{Success}
	for _, k := range providers.Kinds() {
		kinds = append(kinds, string(k))
	}
	return kinds
}

func holdReasons() []string {
	return []string{string(providers.Unavailable), string(providers.Credentials), string(providers.Misconfigured), Other}
}

func deferralReasons() []string {
	return []string{
		string(providers.Unavailable), string(providers.Throttled), string(providers.Credentials), string(providers.Misconfigured),
		Limit, Urgent, Start, Newer, Redis, Shutdown, Interrupted, Other,
	}
}

// known keeps a label's values bounded: what is not foreseen is [Other].
func known(value string, values []string) string {
	if slices.Contains(values, value) {
		return value
	}
	return Other
}
