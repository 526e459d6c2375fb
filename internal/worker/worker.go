package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/ops"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

const (
	publishEvery = 10 * time.Second
	// measureEvery is how often it is looked what waits in a lane, and measureMost how long that may take.
	measureEvery = 10 * time.Second
	measureMost  = 2 * time.Minute
	trimEvery    = 5 * time.Minute
	sweepEvery   = 10 * time.Second
	// unservedEvery is how often queues that nobody serves are looked at.
	unservedEvery = 15 * time.Second
	sweepMost     = 2 * time.Minute
	minUrgent     = 2 // workers of its own that urgent recalls of a lane have at least
	// emptyPause is asynq's pause after an empty dequeue. The real waiting is done by the lane's dequeuer.
	emptyPause = 2 * time.Millisecond
	// forwardEvery is how often asynq moves due retries into their queue.
	forwardEvery = time.Second
	stopGrace    = 10 * time.Second
	callGrace    = 2 * time.Second
)

// Lane is one lane to serve.
type Lane struct {
	Spec        providers.Spec
	App         string
	Provider    providers.Provider
	Fingerprint string // tells one set of credentials from another
	Window      time.Duration
	Limits      []providers.Limit
	Timeout     time.Duration // of one call
	Concurrency int           // recalls at a time, bulk; urgent ones have workers of their own
	Simulated   bool          // the base URL is not the vendor's
	DefaultText string        // timpush: the app's own texts for recalls that bring none; empty if it has none
	// Account names what the lane shares with others: lanes of one account are throttled together when the vendor says so.
	Account string
}

// Options are what a worker is made of.
type Options struct {
	Redis redis.UniversalClient
	// Queue is what asynq's servers use. It must not repeat commands on its own; nil means Redis.
	Queue     redis.UniversalClient
	Lanes     []Lane
	Instance  string        // tells this process from all others
	Retention time.Duration // how long ended tasks are kept
	Metrics   *metrics.Metrics
	// Away reports whether Redis is known not to answer, or to refuse what is written. It may still answer a ping. A nil Away
	// means that nobody knows.
	Away func() bool
	// Refresh reads the secrets of a held lane again, where they stand in files. It returns nil if they are the same. A nil
	// Refresh means that there are none.
	Refresh func(provider, app string) (*Lane, error)
	Log     zerolog.Logger
}

// Worker serves lanes. It is made by New, started once and stopped once.
type Worker struct {
	opt      Options
	ledger   *ledger.Ledger
	stations []*station
	unserved map[string]*ender // by queue; sweepUnserved's own
	// unreadable are the published lanes that could not be read, and were told of; sweepUnserved's own.
	unreadable map[string]bool
	// known are all published lanes that could be read, as sweepUnserved has last seen them.
	known   atomic.Pointer[map[string]*tasks.Lane]
	started atomic.Bool
	stop    chan struct{} // closed: take no more work
	leave   chan struct{} // closed: give up what is not done
	wg      sync.WaitGroup
	// cancelled holds a token when a batch was cancelled.
	cancelled chan struct{}
	// unwritten is how many outcomes are known, and not written yet.
	unwritten atomic.Int64
}

// station is all that is one lane's own.
type station struct {
	Lane      // as it was at the start; what a reload may change is in account
	account   atomic.Pointer[Lane]
	replacing sync.Mutex // held while the account and what goes with it are replaced
	lane      *lane.Lane
	siblings  map[string]*lane.Lane // this process's other lanes of the same account, by name
	ledger    *ledger.Ledger
	inspector *asynq.Inspector
	metrics   *metrics.Metrics
	log       zerolog.Logger
	stop      <-chan struct{}
	leave     <-chan struct{}
	unwritten *atomic.Int64
	servers   []*server
	redis     redis.UniversalClient
	instance  string
	retention time.Duration
	hold      atomic.Pointer[lane.Hold] // as last read
	changes   chan struct{}             // holds a token when the lane is to be measured at once
}

// server is one asynq server with the dequeuer it is fed by.
type server struct {
	*asynq.Server
	dequeuer *lane.Dequeuer
	handler  *handler
}

// New returns a worker that serves nothing yet.
func New(opt Options) *Worker {
	if opt.Queue == nil {
		opt.Queue = opt.Redis
	}
	w := &Worker{
		opt:        opt,
		ledger:     ledger.New(opt.Redis),
		unserved:   map[string]*ender{},
		unreadable: map[string]bool{},
		stop:       make(chan struct{}),
		leave:      make(chan struct{}),
		cancelled:  make(chan struct{}, 1),
	}
	for _, l := range opt.Lanes {
		w.stations = append(w.stations, w.newStation(l))
	}
	for _, s := range w.stations {
		for _, other := range w.stations {
			if s != other && s.Account != "" && s.Account == other.Account {
				s.siblings[other.lane.Name()] = other.lane
			}
		}
	}
	return w
}

func (w *Worker) newStation(l Lane) *station {
	s := w.bareStation(l)
	s.servers = []*server{
		w.newServer(s, tasks.Urgent, max(minUrgent, l.Concurrency/4)),
		w.newServer(s, tasks.Bulk, max(1, l.Concurrency)),
	}
	return s
}

// bareStation returns a station without servers.
func (w *Worker) bareStation(l Lane) *station {
	s := &station{
		Lane: l,
		lane: lane.New(w.opt.Redis, lane.Options{
			Provider: l.Spec.Name, App: l.App, Fingerprint: l.Fingerprint,
			Limits: l.Limits, Timeout: l.Timeout, Instance: w.opt.Instance,
		}),
		ledger:    w.ledger,
		inspector: asynq.NewInspectorFromRedisClient(w.opt.Redis),
		metrics:   w.opt.Metrics,
		redis:     w.opt.Redis,
		instance:  w.opt.Instance,
		retention: w.opt.Retention,
		log:       w.opt.Log.With().Str("provider", l.Spec.Name).Str("app", l.App).Logger(),
		stop:      w.stop,
		leave:     w.leave,
		unwritten: &w.unwritten,
		changes:   make(chan struct{}, 1),
		siblings:  map[string]*lane.Lane{},
	}
	s.account.Store(&l)
	s.hold.Store(&lane.Hold{})
	return s
}

func (w *Worker) newServer(s *station, p tasks.Priority, concurrency int) *server {
	d := lane.NewDequeuer(w.opt.Queue, s.lane, p, w.stop)
	return &server{
		dequeuer: d,
		handler:  &handler{station: s, dequeuer: d, priority: p},
		Server: asynq.NewServerFromRedisClient(d, asynq.Config{
			Concurrency:              concurrency,
			Queues:                   map[string]int{d.Queue(): 1},
			TaskCheckInterval:        emptyPause,
			DelayedTaskCheckInterval: forwardEvery,
			RetryDelayFunc:           retryDelay,
			IsFailure:                isFailure,
			ShutdownTimeout:          w.Grace(),
			Logger:                   logger{s.log},
			LogLevel:                 asynq.WarnLevel,
		}),
	}
}

// Grace is how long a stop waits for calls in flight.
func (w *Worker) Grace() time.Duration {
	grace := stopGrace
	for _, l := range w.opt.Lanes {
		grace = max(grace, l.Timeout+callGrace)
	}
	return grace
}

// Start publishes the lanes and begins to serve them. It returns once Redis has taken the lanes and every server runs.
func (w *Worker) Start(ctx context.Context) error {
	if err := w.Publish(ctx); err != nil {
		return err
	}
	for _, s := range w.stations {
		for _, srv := range s.servers {
			if err := srv.Start(srv.handler); err != nil {
				return fmt.Errorf("start the queue %s: %w", srv.dequeuer.Queue(), err)
			}
		}
	}
	w.started.Store(true)
	w.wg.Go(w.listen)
	running, cancel := context.WithCancel(context.Background())
	w.wg.Go(func() {
		<-w.stop
		cancel()
	})
	for _, s := range w.stations {
		w.wg.Go(func() { s.measuring(running) })
	}
	w.wg.Go(func() { w.sweeping(sweepEvery, w.cancelled, w.sweep) })
	w.wg.Go(w.sweepingUnserved)
	w.wg.Go(w.housekeeping)
	return nil
}

// Stop takes no more work, lets calls in flight finish within the grace period and hands back the rest, uncounted.
func (w *Worker) Stop() {
	w.started.Store(false)
	close(w.stop)
	grace := time.AfterFunc(w.Grace(), func() { close(w.leave) })
	defer grace.Stop()
	var wg sync.WaitGroup
	for _, s := range w.stations {
		for _, srv := range s.servers {
			wg.Go(srv.Shutdown)
		}
	}
	wg.Wait()
	w.wg.Wait()
	for _, s := range w.stations {
		s.account.Load().Provider.Close()
	}
}

// Unwritten is how many outcomes are known and not written. Once the worker has stopped, they are lost: their recalls are called
// once more, by recovery.
func (w *Worker) Unwritten() int64 { return w.unwritten.Load() }

// listen passes wake-ups on to those who wait.
func (w *Worker) listen() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sub := w.opt.Redis.Subscribe(ctx, tasks.WakeChannel)
	defer sub.Close()
	dequeuers := map[string]*lane.Dequeuer{}
	lanes := map[string]*lane.Lane{}
	for _, s := range w.stations {
		lanes[s.lane.Name()] = s.lane
		for _, srv := range s.servers {
			dequeuers[srv.dequeuer.Queue()] = srv.dequeuer
		}
	}
	messages := sub.Channel()
	for {
		select {
		case <-w.stop:
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			name, isLane := strings.CutPrefix(m.Payload, lane.WakePrefix)
			switch {
			case m.Payload == tasks.CancelledWake:
				for _, d := range dequeuers {
					d.Cancelled()
				}
				select {
				case w.cancelled <- struct{}{}:
				default:
				}
			case isLane && lanes[name] != nil:
				lanes[name].Wake()
			case dequeuers[m.Payload] != nil:
				dequeuers[m.Payload].Wake()
			}
		}
	}
}

// housekeeping publishes the lanes and removes what is kept no longer, again and again.
func (w *Worker) housekeeping() {
	publish, trim := time.NewTicker(publishEvery), time.NewTicker(trimEvery)
	defer publish.Stop()
	defer trim.Stop()
	bounded := func(f func(context.Context)) {
		ctx, cancel := context.WithTimeout(context.Background(), publishEvery)
		defer cancel()
		f(ctx)
	}
	for {
		select {
		case <-w.stop:
			return
		case <-publish.C:
			bounded(w.republish)
			w.refresh()
		case <-trim.C:
			bounded(func(ctx context.Context) { w.tidy(ctx, w.clock(ctx)) })
		}
	}
}

// clock is Redis's clock, which all that is kept in Redis goes by; ours if it does not tell.
func (w *Worker) clock(ctx context.Context) time.Time {
	if now, err := w.opt.Redis.Time(ctx).Result(); err == nil {
		return now
	}
	return time.Now()
}

func (w *Worker) republish(ctx context.Context) {
	if err := w.Publish(ctx); err != nil {
		w.opt.Log.Debug().Err(err).Msg("the lanes were not published")
	}
}

// tidy removes what is kept no longer.
func (w *Worker) tidy(ctx context.Context, now time.Time) {
	errs := []error{w.ledger.Trim(ctx, now), w.ledger.Tidy(ctx, now)}
	for _, s := range w.stations {
		for _, srv := range s.servers {
			_, err := w.ledger.Prune(ctx, srv.dequeuer.Queue(), now)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		w.opt.Log.Debug().Err(err).Msg("old entries were not removed")
	}
}

// sweeping sweeps again and again. It has a goroutine of its own: a million recalls take it most of a minute.
func (w *Worker) sweeping(every time.Duration, early <-chan struct{}, sweep func(context.Context)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		case <-early:
		}
		ctx, cancel := context.WithTimeout(context.Background(), sweepMost)
		sweep(ctx)
		cancel()
	}
}

// sweep ends what is too late or cancelled, also behind closed lanes.
func (w *Worker) sweep(ctx context.Context) {
	cancelled, err := w.ledger.Cancelled(ctx, w.clock(ctx))
	if err != nil {
		w.opt.Log.Debug().Err(err).Msg("nobody looked for recalls of cancelled batches")
	}
	for _, s := range w.stations {
		for _, srv := range s.servers {
			n, err := srv.dequeuer.Sweep(ctx, cancelled)
			if err != nil {
				s.log.Debug().Err(err).Msg("nobody looked for recalls that are too late")
			}
			if n > 0 {
				s.log.Info().Str("queue", srv.dequeuer.Queue()).Int("recalls", n).Msg("recalls that are too late or cancelled are ended")
			}
		}
	}
}

// Publish tells producers, the command line and the metrics how the lanes stand, without secrets.
func (w *Worker) Publish(ctx context.Context) error {
	now, err := w.opt.Redis.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask Redis for the time: %w", err)
	}
	var errs []error
	for _, s := range w.stations {
		s.lane.SetClock(now)
		errs = append(errs, s.publish(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("publish the lanes: %w", err)
	}
	return nil
}

func (s *station) publish(ctx context.Context) error {
	hold, err := s.lane.Hold(ctx)
	if err != nil {
		return err
	}
	s.hold.Store(&hold)
	s.metrics.LaneHeld(s.Spec.Name, s.App, hold.Reason, hold.Reason != "")
	account := s.account.Load()
	return tasks.PublishLane(ctx, s.redis, tasks.Lane{
		Provider: s.Spec.Name, App: s.App, Window: account.Window, Limits: account.Limits,
		Hold: hold.Reason, HoldUntil: hold.Until, Simulated: account.Simulated, HasDefaultText: account.DefaultText != "",
		Retention: s.retention, Account: s.Account, LastSeen: s.lane.Now(),
	})
}

// measuring looks what waits in the lane, now and then again and again. It has a goroutine of its own, because to look through a
// million recalls takes some seconds, in which the lane's hold must not go untold.
func (s *station) measuring(ctx context.Context) {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, measureMost)
		if err := s.measure(bounded); err != nil {
			s.log.Debug().Err(err).Msg("nobody knows what waits in the lane")
		}
		cancel()
		select {
		case <-tick.C:
		case <-s.changes:
		case <-ctx.Done():
			return
		}
	}
}

func (s *station) measure(ctx context.Context) error {
	backlog, err := s.lane.Backlog(ctx)
	if err != nil {
		return err
	}
	s.metrics.SetBacklog(s.Spec.Name, s.App, backlog.Takes.Seconds())
	next := math.Inf(1)
	if !backlog.NextExpiry.IsZero() {
		next = backlog.NextExpiry.Sub(s.lane.Now()).Seconds()
	}
	s.metrics.SetNextExpiry(s.Spec.Name, s.App, next)
	return nil
}

// Ready tells whether Redis answers, and how each lane stands.
func (w *Worker) Ready(ctx context.Context) ops.Readiness {
	away := w.opt.Away != nil && w.opt.Away()
	r := ops.Readiness{Redis: !away && w.opt.Redis.Ping(ctx).Err() == nil}
	for _, s := range w.stations {
		hold := s.hold.Load()
		r.Lanes = append(r.Lanes, ops.LaneState{
			Lane: s.lane.Name(), Running: w.started.Load(), Held: hold.Reason != "", Reason: hold.Reason, Until: hold.Until,
			Simulated: s.account.Load().Simulated,
		})
	}
	return r
}

// Simulated reports whether what is called for a lane is not the vendor, as far as this process knows: of other workers' lanes it
// learns by what they publish.
func (w *Worker) Simulated(provider, app string) bool {
	if s := w.station(provider, app); s != nil {
		return s.account.Load().Simulated
	}
	known := w.known.Load()
	if known == nil {
		return false
	}
	l := (*known)[provider+":"+app]
	return l != nil && l.Simulated
}
