package metrics_test

import (
	"bufio"
	"fmt"
	"math"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns our own series as a Prometheus would read them.
func scrape(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	lines := bufio.NewScanner(strings.NewReader(page(t, m)))
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "recallq_") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("the line %q has no value: %v", line, err)
		}
		got[line[:at]] = value
	}
	return got
}

func page(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("/metrics answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func expect(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		have, ok := got[series]
		if !ok {
			t.Errorf("no series %s", series)
		} else if have != value {
			t.Errorf("%s is %v, want %v", series, have, value)
		}
	}
}

func TestEverySeriesOfALaneIsThereBeforeAnythingHappens(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Lane("jiguang", "news")
	m.SetNextExpiry("jiguang", "news", 7)
	m.Lane("jiguang", "news") // told again, it forgets nothing

	const lane = `app="news",provider="jiguang"`
	want := map[string]float64{
		"recallq_call_duration_seconds_count{" + lane + "}":                 0,
		"recallq_pickup_seconds_count{" + lane + "}":                        0,
		"recallq_lane_backlog_seconds{" + lane + "}":                        0,
		"recallq_lane_next_expiry_seconds{" + lane + "}":                    7,
		`recallq_calls_total{app="news",kind="success",provider="jiguang"}`: 0,
	}
	for _, outcome := range tasks.Outcomes() {
		want[fmt.Sprintf(`recallq_outcomes_total{app="news",outcome=%q,provider="jiguang"}`, outcome)] = 0
	}
	for _, kind := range providers.Kinds() {
		want[fmt.Sprintf(`recallq_calls_total{app="news",kind=%q,provider="jiguang"}`, kind)] = 0
	}
	for _, reason := range []string{"unavailable", "credentials", "misconfigured"} {
		want[fmt.Sprintf(`recallq_lane_held{app="news",provider="jiguang",reason=%q}`, reason)] = 0
	}
	for _, reason := range []string{"throttled", "limit", "credentials", "redis", "shutdown"} {
		want[fmt.Sprintf(`recallq_deferrals_total{app="news",provider="jiguang",reason=%q}`, reason)] = 0
	}
	expect(t, scrape(t, m), want)
}

func TestNothingWaitingKeepsAnAlertOnTheNextExpiryQuiet(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Lane("timchat", "chat")
	expect(t, scrape(t, m), map[string]float64{
		`recallq_lane_next_expiry_seconds{app="chat",provider="timchat"}`: math.Inf(1),
	})
}

func TestWhatHappensIsCounted(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Lane("timpush", "chat")
	m.Outcome("timpush", "chat", tasks.Recalled)
	m.Outcome("timpush", "chat", tasks.Recalled)
	m.Call("timpush", "chat", metrics.Success, 300*time.Millisecond)
	m.Call("timpush", "chat", string(providers.Throttled), 100*time.Millisecond)
	m.Pickup("timpush", "chat", 3*time.Second)
	m.Pickup("timpush", "chat", -time.Second) // the producer's clock is ahead
	m.Deferral("timpush", "chat", string(providers.Throttled))
	m.SetBacklog("timpush", "chat", 90)
	m.SetNextExpiry("timpush", "chat", 600)

	const lane = `app="chat",provider="timpush"`
	expect(t, scrape(t, m), map[string]float64{
		`recallq_outcomes_total{app="chat",outcome="recalled",provider="timpush"}`:  2,
		`recallq_calls_total{app="chat",kind="success",provider="timpush"}`:         1,
		`recallq_calls_total{app="chat",kind="throttled",provider="timpush"}`:       1,
		`recallq_call_duration_seconds_count{` + lane + `}`:                         2,
		`recallq_call_duration_seconds_sum{` + lane + `}`:                           0.4,
		`recallq_pickup_seconds_sum{` + lane + `}`:                                  3,
		`recallq_pickup_seconds_count{` + lane + `}`:                                2,
		`recallq_deferrals_total{app="chat",provider="timpush",reason="throttled"}`: 1,
		`recallq_lane_backlog_seconds{` + lane + `}`:                                90,
		`recallq_lane_next_expiry_seconds{` + lane + `}`:                            600,
	})
}

func TestARedisThatRefusesIsToldApart(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	expect(t, scrape(t, m), map[string]float64{"recallq_redis_up": 1})
	m.RedisUp(false)
	expect(t, scrape(t, m), map[string]float64{"recallq_redis_up": 0})
	m.RedisUp(true)
	expect(t, scrape(t, m), map[string]float64{"recallq_redis_up": 1})
}

func TestALaneHasOneHoldAtATime(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Lane("jiguang", "news")
	held := func() map[string]float64 {
		got := map[string]float64{}
		for series, value := range scrape(t, m) {
			if reason, ok := strings.CutPrefix(series, `recallq_lane_held{app="news",provider="jiguang",reason="`); ok && value != 0 {
				got[strings.TrimSuffix(reason, `"}`)] = value
			}
		}
		return got
	}
	for _, step := range []struct {
		reason string
		held   bool
		want   map[string]float64
	}{
		{"unavailable", true, map[string]float64{"unavailable": 1}},
		{"credentials", true, map[string]float64{"credentials": 1}},
		{"", false, map[string]float64{}},
		{"sunspots", true, map[string]float64{"other": 1}},
	} {
		m.LaneHeld("jiguang", "news", step.reason, step.held)
		if diff := cmp.Diff(step.want, held()); diff != "" {
			t.Errorf("after %q, %v (-want +got):\n%s", step.reason, step.held, diff)
		}
	}
}

func TestAWordThatNobodyForesawMakesNoSeriesOfItsOwn(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Lane("jiguang", "news")
	m.Outcome("jiguang", "news", "user-4711")
	m.Call("jiguang", "news", "user-4711", time.Second)
	m.Deferral("jiguang", "news", "user-4711")
	m.LaneHeld("jiguang", "news", "user-4711", true)
	if text := page(t, m); strings.Contains(text, "user-4711") {
		t.Errorf("a value from outside became a label:\n%s", text)
	}
	expect(t, scrape(t, m), map[string]float64{
		`recallq_deferrals_total{app="news",provider="jiguang",reason="other"}`: 1,
	})
}

func TestTwoWorkersInOneProcessShareNothing(t *testing.T) {
	t.Parallel()
	a, b := metrics.New(), metrics.New()
	a.Lane("jiguang", "news")
	b.Lane("jiguang", "news")
	a.Outcome("jiguang", "news", tasks.Recalled)
	expect(t, scrape(t, b), map[string]float64{`recallq_outcomes_total{app="news",outcome="recalled",provider="jiguang"}`: 0})
}

func TestTheNamesPassPrometheusLinter(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Watch(startRedis(t))
	m.Lane("jiguang", "news")
	var ours strings.Builder
	for line := range strings.Lines(page(t, m)) {
		if strings.Contains(line, "recallq_") {
			ours.WriteString(line)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNothingIsRegisteredGlobally(t *testing.T) {
	t.Parallel()
	metrics.New().Lane("jiguang", "news")
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "recallq_") {
			t.Errorf("%s is in the global registry", f.GetName())
		}
	}
}
