package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/redis/go-redis/v9/maintnotifications.(*CircuitBreakerManager).cleanupLoop"))
}

// vendor is a provider that answers by a script for each message, then with success.
type vendor struct {
	mu     sync.Mutex
	script map[string][]*providers.Fault
	calls  []string
	during func(id string) // what happens while a call is under way
	wire   bool            // calls go over a connection, as far as a trace in the context can tell
	called chan string
}

func newVendor() *vendor {
	return &vendor{script: map[string][]*providers.Fault{}, called: make(chan string, 10_000)}
}

func (v *vendor) answers(id string, faults ...*providers.Fault) { v.script[id] = faults }

func (v *vendor) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	v.mu.Lock()
	v.calls = append(v.calls, req.MessageID)
	during := v.during
	var fault *providers.Fault
	if next := v.script[req.MessageID]; len(next) > 0 {
		fault, v.script[req.MessageID] = next[0], next[1:]
	}
	v.mu.Unlock()
	if trace := httptrace.ContextClientTrace(ctx); v.wire && trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	v.called <- req.MessageID
	if during != nil {
		during(req.MessageID)
	}
	if fault != nil {
		return providers.Receipt{}, fault
	}
	return providers.Receipt{Code: "0"}, nil
}

func (v *vendor) Close() {}

func (v *vendor) count(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, have := range v.calls {
		if have == id {
			n++
		}
	}
	return n
}

// bench is a worker on its own Redis, with one scripted vendor.
type bench struct {
	t      *testing.T
	rdb    *redis.Client
	vendor *vendor
	lane   Lane
	log    *bytes.Buffer
	logMu  sync.Mutex
}

func newBench(t *testing.T, provider string, rdb *redis.Client) *bench {
	t.Helper()
	if rdb == nil {
		mr := miniredis.RunT(t)
		rdb = redis.NewClient(&redis.Options{Addr: mr.Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
	}
	spec, _ := providers.Lookup(provider)
	v := newVendor()
	return &bench{
		t: t, rdb: rdb, vendor: v, log: &bytes.Buffer{},
		lane: Lane{
			Spec: spec, App: "app", Provider: v, Fingerprint: "f1", Window: spec.Window,
			Timeout: time.Second, Concurrency: 4,
		},
	}
}

func (b *bench) Write(p []byte) (int, error) {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.log.String()
}

// work starts a worker; the returned function stops it.
func (b *bench) work() (stop func()) {
	b.t.Helper()
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: fmt.Sprintf("w%d", time.Now().UnixNano()), Metrics: metrics.New(), Log: zerolog.New(b)})
	if err := w.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	stop = sync.OnceFunc(w.Stop)
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) enqueue(id string, sentAt time.Time) tasks.Result {
	b.t.Helper()
	r := tasks.Recall{Provider: b.lane.Spec.Name, App: "app", MessageID: id, SentAt: sentAt, Ref: "ref-" + id}
	if b.lane.Spec.Uses(providers.From) {
		r.From = "alice"
	}
	if b.lane.Spec.Uses(providers.To) {
		r.To = "bob"
	}
	res, err := tasks.NewProducer(b.rdb).Enqueue(b.t.Context(), r, tasks.AllowUnserved())
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// outcomes waits for n entries on the stream and returns them by message id.
func (b *bench) outcomes(n int) map[string]map[string]any {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	all := map[string]map[string]any{}
	last := "0"
	for len(all) < n {
		streams, err := b.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{tasks.OutcomesKey, last}, Block: 100 * time.Millisecond}).Result()
		if err != nil && err != redis.Nil {
			b.t.Fatalf("%d of %d outcomes: %v\n%s", len(all), n, err, b.logged())
		}
		for _, s := range streams {
			for _, m := range s.Messages {
				last = m.ID
				all[m.Values["message_id"].(string)] = m.Values
			}
		}
	}
	return all
}

func (b *bench) result(res tasks.Result) tasks.Outcome {
	b.t.Helper()
	text, err := b.rdb.HGet(b.t.Context(), "asynq:{"+res.Queue+"}:t:"+res.ID, "result").Bytes()
	if err != nil {
		b.t.Fatal(err)
	}
	var o tasks.Outcome
	if err := json.Unmarshal(text, &o); err != nil {
		b.t.Fatal(err)
	}
	return o
}

// info waits until the task is in a state.
func (b *bench) info(res tasks.Result, want asynq.TaskState) *asynq.TaskInfo {
	b.t.Helper()
	i := asynq.NewInspectorFromRedisClient(b.rdb)
	var got *asynq.TaskInfo
	b.until(func() bool {
		info, err := i.GetTaskInfo(res.Queue, res.ID)
		got = info
		return err == nil && info.State == want
	})
	return got
}

func (b *bench) until(ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			b.t.Fatalf("it did not happen\n%s", b.logged())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var (
	internalError = &providers.Fault{Kind: providers.Unavailable, Code: "91000", Message: "internal service error", MaybeDone: true}
	already       = &providers.Fault{Kind: providers.AlreadyRecalled, Code: "90050", Message: "repeated recall"}
	gone          = &providers.Fault{Kind: providers.WindowClosed, Code: "90052", Message: "too late"}
	unknown       = &providers.Fault{Kind: providers.NotFound, Code: "90049", Message: "no push record"}
	invalid       = &providers.Fault{Kind: providers.Invalid, Code: "90053", Message: "no OfflinePushInfo"}
	refused       = &providers.Fault{Kind: providers.Credentials, Code: "70003", Message: "bad sig"}
	ambiguous     = &providers.Fault{Kind: providers.NotFound, Code: "21003", Message: "msg_id not exist", Ambiguous: true}
	lost          = &providers.Fault{Kind: providers.Unavailable, Message: "no answer", MaybeDone: true}
)

func TestEachAnswerLeadsToItsOutcome(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	now := time.Now()
	b.vendor.answers("retried", internalError, internalError)
	b.vendor.answers("already", already)
	b.vendor.answers("gone", gone)
	b.vendor.answers("unknown", unknown)
	b.vendor.answers("invalid", invalid)
	want := map[string]struct {
		outcome, code, attempts string
		calls                   int
	}{
		"good":    {"recalled", "0", "1", 1},
		"retried": {"recalled", "0", "3", 3},
		"already": {"already_recalled", "90050", "1", 1},
		"gone":    {"expired", "90052", "1", 1},
		"unknown": {"not_found", "90049", "1", 1},
		"invalid": {"rejected", "90053", "1", 1},
	}
	results := map[string]tasks.Result{}
	for id := range want {
		results[id] = b.enqueue(id, now)
	}
	b.work()
	got := b.outcomes(len(want))
	for id, w := range want {
		e := got[id]
		if e["outcome"] != w.outcome || e["code"] != w.code || e["attempts"] != w.attempts {
			t.Errorf("%s ended as %v %v after %v, want %v", id, e["outcome"], e["code"], e["attempts"], w)
		}
		if n := b.vendor.count(id); n != w.calls {
			t.Errorf("%s: %d calls, want %d", id, n, w.calls)
		}
		if e["ref"] != "ref-"+id || e["id"] != results[id].ID || e["provider"] != "timpush" || e["app"] != "app" {
			t.Errorf("%s: entry %v", id, e)
		}
		if o := b.result(results[id]); o.Outcome != w.outcome || o.Code != w.code || fmt.Sprint(o.Attempts) != w.attempts || o.FinishedAt.IsZero() {
			t.Errorf("%s: the task's result is %+v", id, o)
		}
		if tasks.Succeeded(w.outcome) {
			b.info(results[id], asynq.TaskStateCompleted)
			continue
		}
		if info := b.info(results[id], asynq.TaskStateArchived); info.LastErr != archivedText(w.outcome, e["error"].(string)) || !strings.HasPrefix(info.LastErr, w.outcome) {
			t.Errorf("%s: archived with %q", id, info.LastErr)
		}
	}
}

func TestNoCallOnceTheWindowHasClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	res := b.enqueue("late", time.Now().Add(-24*time.Hour+300*time.Millisecond))
	b.until(func() bool { return time.Now().After(res.RecallBy) })
	b.work()
	if e := b.outcomes(1)["late"]; e["outcome"] != "expired" || e["attempts"] != "0" {
		t.Errorf("entry %v", e)
	}
	if n := b.vendor.count("late"); n != 0 {
		t.Errorf("%d calls after recall_by", n)
	}
}

func TestNoCallAfterAnOutcomeWhenTheWorkerDiedInBetween(t *testing.T) {
	t.Parallel()
	for _, outcome := range []string{tasks.Recalled, tasks.Rejected} {
		b := newBench(t, providers.TIMPush, nil)
		res := b.enqueue("m", time.Now())
		// A worker wrote the outcome and died before asynq knew.
		err := ledger.New(b.rdb).Record(t.Context(), ledger.Task{Queue: res.Queue, ID: res.ID}, ledger.Entry{
			ID: res.ID, Recall: tasks.Recall{MessageID: "m"}, Outcome: tasks.Outcome{Outcome: outcome, Attempts: 1, FinishedAt: time.Now()},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.work()
		state := asynq.TaskStateCompleted
		if !tasks.Succeeded(outcome) {
			state = asynq.TaskStateArchived
		}
		b.info(res, state)
		if n := b.vendor.count("m"); n != 0 {
			t.Errorf("%s: %d calls after the outcome", outcome, n)
		}
	}
}

func TestAPersonCanRunAFailedRecallAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	b.vendor.answers("m", invalid)
	res := b.enqueue("m", time.Now())
	b.work()
	b.info(res, asynq.TaskStateArchived)
	if err := asynq.NewInspectorFromRedisClient(b.rdb).RunTask(res.Queue, res.ID); err != nil {
		t.Fatal(err)
	}
	b.info(res, asynq.TaskStateCompleted)
	if o := b.result(res); o.Outcome != "recalled" || o.Attempts != 2 {
		t.Errorf("result %+v", o)
	}
}

func TestEngageLabsNotFoundIsReadByOurOwnRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.EngageLab, nil)
	b.vendor.answers("1001", ambiguous)
	b.vendor.answers("1002", lost, ambiguous)
	b.vendor.answers("1003", &providers.Fault{Kind: providers.Unavailable, Message: "connection refused"}, ambiguous)
	for _, id := range []string{"1001", "1002", "1003"} {
		b.enqueue(id, time.Now())
	}
	b.work()
	got := b.outcomes(3)
	for id, want := range map[string]string{"1001": "not_found", "1002": "already_recalled", "1003": "not_found"} {
		if got[id]["outcome"] != want {
			t.Errorf("%s ended as %v, want %s", id, got[id]["outcome"], want)
		}
	}
}

// A call that was answered with a no has not gone through: when the recall is tried again, by whatever way, the message is as unknown as
// before. Only a call that was never answered may have.
func TestEngageLabsUnknownMessageStaysUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.EngageLab, nil)
	bad := &providers.Fault{Kind: providers.Invalid, Code: "21002"}
	b.vendor.answers("1001", ambiguous, ambiguous, ambiguous)
	b.vendor.answers("1002", bad, ambiguous, ambiguous)
	b.vendor.answers("1003", lost, bad, ambiguous)
	results := map[string]tasks.Result{}
	enqueue := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			results[id] = b.enqueue(id, time.Now())
			if results[id].Status != tasks.Enqueued {
				t.Fatalf("%s: %+v", id, results[id])
			}
		}
	}
	want := func(id, outcome string, calls int) {
		t.Helper()
		b.until(func() bool {
			o := tasks.Outcome{}
			text, _ := b.rdb.HGet(t.Context(), tasks.TaskKey(results[id].Queue, results[id].ID), "result").Bytes()
			return b.vendor.count(id) == calls && json.Unmarshal(text, &o) == nil && o.Outcome == outcome
		})
	}
	enqueue("1001", "1002", "1003")
	b.work()
	want("1001", tasks.NotFound, 1)
	want("1002", tasks.Rejected, 1)
	want("1003", tasks.Rejected, 2)
	enqueue("1001", "1002", "1003")
	want("1001", tasks.NotFound, 2)
	want("1002", tasks.NotFound, 2)
	want("1003", tasks.AlreadyRecalled, 3)
	for _, id := range []string{"1001", "1002"} {
		b.info(results[id], asynq.TaskStateArchived)
		if err := asynq.NewInspectorFromRedisClient(b.rdb).RunTask(results[id].Queue, results[id].ID); err != nil {
			t.Fatal(err)
		}
		want(id, tasks.NotFound, 3)
	}
}

func TestAKilledWorkersCallCountsAsOneThatMayHaveGoneThrough(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.EngageLab, nil)
	marked := make(chan bool, 1)
	res := b.enqueue("1001", time.Now())
	b.vendor.during = func(string) {
		maybe, _ := b.rdb.HGet(context.Background(), "asynq:{"+res.Queue+"}:t:"+res.ID, "rq_maybe").Result()
		marked <- maybe == "1"
	}
	b.work()
	if !<-marked {
		t.Error("the call was not on record while it was under way")
	}
}

func TestACredentialsFaultArchivesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	b.vendor.answers("m", refused)
	res := b.enqueue("m", time.Now())
	b.work()
	info := b.info(res, asynq.TaskStatePending)
	if info.Retried != 0 {
		t.Errorf("asynq counted %d retries of a deferral", info.Retried)
	}
	b.until(func() bool { return bytes.Contains([]byte(b.logged()), []byte(`"lane closed"`)) })
	if n := b.vendor.count("m"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestARecallInTheWrongQueueIsRejected(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	client := asynq.NewClientFromRedisClient(b.rdb)
	for _, payload := range []string{`{"v":1`, `{"v":1,"provider":"jiguang","app":"app","message_id":"x","recall_by":"2099-01-01T00:00:00.000Z"}`} {
		_, err := client.Enqueue(asynq.NewTask("recall:timpush", []byte(payload)), asynq.Queue("timpush:app"), asynq.MaxRetry(tasks.MaxRetry))
		if err != nil {
			t.Fatal(err)
		}
	}
	b.work()
	b.until(func() bool {
		n, _ := b.rdb.ZCard(t.Context(), "asynq:{timpush:app}:archived").Result()
		return n == 2
	})
	if n, _ := b.rdb.XLen(t.Context(), tasks.OutcomesKey).Result(); n != 2 {
		t.Errorf("%d outcomes, want 2", n)
	}
}

func TestNewCredentialsAreTriedAtOnceAndWorkGoesOn(t *testing.T) {
	t.Parallel()
	for _, reason := range []providers.Kind{providers.Credentials, providers.Misconfigured} {
		b := newBench(t, providers.TIMPush, nil)
		fault := &providers.Fault{Kind: reason, Code: "70003", Message: "bad sig"}
		b.vendor.answers("m", fault, fault)
		mended := newVendor()
		goOn := make(chan struct{})
		mended.during = func(string) { <-goOn }
		asked := 0
		m := metrics.New()
		m.Lane("timpush", "app")
		w := New(Options{
			Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: m, Log: zerolog.New(b),
			Refresh: func(provider, app string) (*Lane, error) {
				asked++
				next := b.lane
				next.Provider, next.Fingerprint = mended, "f2"
				return &next, nil
			},
		})
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		held := func() [3]string {
			lanes, err := tasks.Lanes(t.Context(), b.rdb)
			if err != nil {
				t.Fatal(err)
			}
			gauge := scraped(m)[fmt.Sprintf(`recallq_lane_held{app="app",provider="timpush",reason="%s"}`, reason)]
			return [3]string{lanes[0].Hold, fmt.Sprint(gauge), w.Ready(t.Context()).Lanes[0].Reason}
		}
		b.enqueue("m", time.Now())
		<-b.vendor.called
		want := [3]string{string(reason), "1", string(reason)}
		b.until(func() bool { return held() == want })
		w.refresh()
		// The call with the new ones is still under way: nothing but the change itself can have told.
		if got, want := held(), [3]string{"", "0", ""}; got != want {
			t.Errorf("%s: after the change the lanes, the metric and /readyz say %q, want %q", reason, got, want)
		}
		close(goOn)
		if e := b.outcomes(1)["m"]; e["outcome"] != "recalled" {
			t.Errorf("entry %v", e)
		}
		if n := mended.count("m"); n != 1 || asked != 1 {
			t.Errorf("%d calls with the new credentials, read %d times", n, asked)
		}
	}
}

// What a reload changes is published at once.
func TestAReloadIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	next := b.lane
	next.Window = time.Hour
	w.Reload([]Lane{next})
	if lanes, err := tasks.Lanes(t.Context(), b.rdb); err != nil || lanes[0].Window != time.Hour {
		t.Errorf("published: %+v, %v", lanes, err)
	}
}

func TestAReloadChangesWhatItCanAndNamesWhatItCannot(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	other := b.lane
	other.App = "other"
	if changed, restart := w.Reload([]Lane{b.lane, other}); len(changed) != 0 || fmt.Sprint(restart) != "[timpush:other is new]" {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
	next := b.lane
	next.Limits, next.Timeout = []providers.Limit{{Calls: 5, Per: time.Second}}, 3*time.Second
	if changed, restart := w.Reload([]Lane{next}); fmt.Sprint(changed) != "[timpush:app]" || fmt.Sprint(restart) != "[timpush:app has another timeout or concurrency]" {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
	words := next
	words.DefaultText = "Sorry\nSent by mistake"
	if changed, _ := w.Reload([]Lane{words}); fmt.Sprint(changed) != "[timpush:app]" {
		t.Errorf("changed %v by another text", changed)
	}
	if changed, restart := w.Reload(nil); len(changed) != 0 || fmt.Sprint(restart) != "[timpush:app is gone]" {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
}

func TestAPayloadOfANewerVersionWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	_, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(
		asynq.NewTask("recall:timpush", []byte(`{"v":2,"provider":"timpush","app":"app","message_id":"x","recall_by":"2099-01-01T00:00:00.000Z"}`)),
		asynq.Queue("timpush:app"), asynq.TaskID("newer"), asynq.MaxRetry(tasks.MaxRetry))
	if err != nil {
		t.Fatal(err)
	}
	b.work()
	info := b.info(tasks.Result{Queue: "timpush:app", ID: "newer"}, asynq.TaskStateRetry)
	if info.Retried != 0 {
		t.Errorf("asynq counted %d retries", info.Retried)
	}
}

func TestAStopHandsBackWhatWaitsAndHearsOutWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	release := make(chan struct{})
	b.vendor.during = func(id string) {
		if id == "under-way" {
			<-release
		}
	}
	b.vendor.answers("waits", internalError)
	waits := b.enqueue("waits", time.Now())
	stop := b.work()
	<-b.vendor.called // its retry is waited for in place
	under := b.enqueue("under-way", time.Now())
	<-b.vendor.called
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	b.until(func() bool {
		info, err := asynq.NewInspectorFromRedisClient(b.rdb).GetTaskInfo(waits.Queue, waits.ID)
		return err == nil && info.State == asynq.TaskStateRetry
	})
	close(release)
	<-stopped
	info := b.info(waits, asynq.TaskStateRetry)
	if info.Retried != 0 {
		t.Errorf("asynq counted %d retries of a recall that was handed back", info.Retried)
	}
	b.info(under, asynq.TaskStateCompleted)
	if n := b.vendor.count("waits"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestAnIdleWorkerPicksARecallUpAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, redistest.Start(t).Client(t))
	b.work()
	for i := range 20 {
		id := fmt.Sprint("m", i)
		start := time.Now()
		b.enqueue(id, time.Now())
		<-b.vendor.called
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("pick-up took %v: the wake-up does not work, the poll is a second", took)
		}
		b.outcomes(i + 1)
	}
}

// What waits is measured when a worker starts, and not ten seconds later.
func TestWhatWaitsIsMeasuredAtTheStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.RongCloud, nil)
	b.lane.Limits = []providers.Limit{{Calls: 1, Per: time.Hour}}
	for i := range 4 {
		b.enqueue(fmt.Sprintf("0000-0000-0000-000%d", i), time.Now().Add(-time.Hour))
	}
	m := metrics.New()
	m.Lane("rongcloud", "app")
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: m, Log: zerolog.New(b)})
	if err := w.Start(b.t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	took := time.Now()
	b.until(func() bool {
		series := scraped(m)
		backlog, next := series[`recallq_lane_backlog_seconds{app="app",provider="rongcloud"}`], series[`recallq_lane_next_expiry_seconds{app="app",provider="rongcloud"}`]
		return backlog > 2*3600-10 && backlog <= 3*3600 && next > 22*3600 && next <= 23*3600
	})
	if since := time.Since(took); since > measureEvery/2 {
		t.Errorf("it took %s", since)
	}
}

// scraped returns the series as Prometheus reads them.
func scraped(m *metrics.Metrics) map[string]float64 {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	series := map[string]float64{}
	for _, line := range strings.Split(w.Body.String(), "\n") {
		if i := strings.LastIndex(line, " "); i > 0 && !strings.HasPrefix(line, "#") {
			series[line[:i]], _ = strconv.ParseFloat(line[i+1:], 64)
		}
	}
	return series
}

// A lane that does not call the vendor is told apart wherever it is shown, also one that another worker serves.
func TestSimulatedLanesAreToldApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	b.lane.Simulated = true
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	for app, simulated := range map[string]bool{"staging": true, "real": false} {
		err := tasks.PublishLane(t.Context(), b.rdb, tasks.Lane{Provider: "rongcloud", App: app, Window: time.Hour, Simulated: simulated, LastSeen: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.sweepUnserved(t.Context())
	for lane, want := range map[[2]string]bool{
		{"timpush", "app"}: true, {"rongcloud", "staging"}: true, {"rongcloud", "real"}: false, {"rongcloud", "nobody"}: false,
	} {
		if got := w.Simulated(lane[0], lane[1]); got != want {
			t.Errorf("%v: simulated %t", lane, got)
		}
	}
	if r := w.Ready(t.Context()); !r.Lanes[0].Simulated {
		t.Errorf("/readyz says %+v", r.Lanes[0])
	}
}

// A Redis that is full, or a Cluster without one of its masters, answers every ping.
func TestAWorkerIsNotReadyWhileRedisRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	away := true
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b), Away: func() bool { return away }})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if r := w.Ready(t.Context()); r.Redis || r.OK() {
		t.Errorf("while Redis refuses: %+v", r)
	}
	away = false
	if r := w.Ready(t.Context()); !r.Redis || !r.OK() {
		t.Errorf("once it does not any more: %+v", r)
	}
}
