package worker

import (
	"context"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func (b *bench) batch(name string, ids ...string) map[string]tasks.Result {
	b.t.Helper()
	batch, err := tasks.NewProducer(b.rdb).OpenBatch(b.t.Context(), tasks.BatchOptions{Name: name, By: "ops"})
	if err != nil {
		b.t.Fatal(err)
	}
	results := map[string]tasks.Result{}
	for _, id := range ids {
		r := tasks.Recall{Provider: b.lane.Spec.Name, App: "app", MessageID: id, SentAt: time.Now(), Ref: "ref-" + id}
		if results[id], err = batch.Enqueue(b.t.Context(), r, tasks.AllowUnserved()); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := batch.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return results
}

func (b *bench) standing(name string) ledger.Batch {
	b.t.Helper()
	got, err := ledger.New(b.rdb).Batch(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

func TestOutcomesCountInTheirBatch(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	b.vendor.answers("bad", &providers.Fault{Kind: providers.Invalid, Code: "4004"})
	b.vendor.answers("before", &providers.Fault{Kind: providers.AlreadyRecalled, Code: "1015055"})
	b.batch("b", "good", "bad", "before")
	b.work()
	b.until(func() bool { return b.standing("b").Ended(time.Now()) })
	got := b.standing("b")
	if got.Total != 3 || got.Succeeded() != 2 || got.Outcomes[tasks.AlreadyRecalled] != 1 || got.Failed() != 1 || got.Outcomes[tasks.Rejected] != 1 {
		t.Errorf("%+v", got)
	}
	for f, err := range ledger.New(b.rdb).Failures(t.Context(), "b") {
		if err != nil || f.Recall.MessageID != "bad" || f.Recall.Ref != "ref-bad" || f.Outcome.Code != "4004" || f.Error == "" {
			t.Errorf("%+v, %v", f, err)
		}
	}
}

// wired is a vendor whose calls go out, so that limits count them.
type wired struct{ *vendor }

func (w wired) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{})
	return w.vendor.Recall(ctx, req)
}

// The second recall waits for a slot of its lane when its batch is cancelled: its call is not made.
func TestCancelledWhileItWaitsForItsLane(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	b.lane.Provider = wired{b.vendor}
	b.lane.Limits = []providers.Limit{{Calls: 1, Per: 3 * time.Second}}
	results := b.batch("b", "1", "2")
	stop := b.work()
	first := <-b.vendor.called
	if err := ledger.New(b.rdb).Cancel(t.Context(), "b", "ops@host", time.Now()); err != nil {
		t.Fatal(err)
	}
	second := map[string]string{"1": "2", "2": "1"}[first]
	info := b.info(results[second], asynq.TaskStateArchived)
	if !strings.Contains(info.LastErr, "cancelled") || !strings.Contains(info.LastErr, "ops@host") {
		t.Errorf("%q", info.LastErr)
	}
	stop()
	if b.vendor.count(second) != 0 {
		t.Error("it was called")
	}
	if got := b.standing("b"); got.Open != 0 || got.Outcomes[tasks.Cancelled] != 1 || got.Outcomes[tasks.Recalled] != 1 {
		t.Errorf("%+v", got)
	}
}

// What waits behind a closed lane ends soon after its batch is cancelled, and not when the lane is next looked through.
func TestCancelledBehindAClosedLane(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	if err := asynq.NewInspectorFromRedisClient(b.rdb).PauseQueue("jiguang:app"); err != nil {
		t.Fatal(err)
	}
	b.batch("b", "1", "2", "3")
	b.work()
	b.until(func() bool { return b.rdb.PubSubNumSub(t.Context(), tasks.WakeChannel).Val()[tasks.WakeChannel] > 0 })
	began := time.Now()
	if err := ledger.New(b.rdb).Cancel(t.Context(), "b", "ops@host", began); err != nil {
		t.Fatal(err)
	}
	b.until(func() bool { return b.standing("b").Ended(time.Now()) })
	if took := time.Since(began); took > sweepEvery/2 {
		t.Errorf("it took %s", took)
	}
	if got := b.standing("b"); got.Outcomes[tasks.Cancelled] != 3 || len(b.vendor.called) != 0 {
		t.Errorf("%+v, %d calls", got, len(b.vendor.called))
	}
}

// A person presses "run" in asynqmon: the recall is open in its batch again, and then counts under its last outcome.
func TestRunAgainCountsOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	b.vendor.answers("1", &providers.Fault{Kind: providers.Invalid, Code: "4004"})
	res := b.batch("b", "1")["1"]
	b.work()
	b.info(res, asynq.TaskStateArchived)
	if err := asynq.NewInspectorFromRedisClient(b.rdb).RunTask(res.Queue, res.ID); err != nil {
		t.Fatal(err)
	}
	b.info(res, asynq.TaskStateCompleted)
	if got := b.standing("b"); got.Total != 1 || got.Outcomes[tasks.Recalled] != 1 || got.Failed() != 0 {
		t.Errorf("%+v", got)
	}
	if n := b.rdb.HLen(t.Context(), tasks.BatchFailuresKey("b")).Val(); n != 0 {
		t.Errorf("%d failures", n)
	}
}

// Cancelled before a worker came: no call. Brought back by retry, each is called once and counts once.
func TestCancelAndBringBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	l := ledger.New(b.rdb)
	ids := []string{"1", "2", "3", "4", "5"}
	b.batch("b", ids...)
	if err := l.Cancel(t.Context(), "b", "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	b.work()
	b.until(func() bool { return b.standing("b").Ended(time.Now()) })
	if got := b.standing("b"); got.Outcomes[tasks.Cancelled] != 5 || len(b.vendor.called) != 0 {
		t.Fatalf("%+v, %d calls", got, len(b.vendor.called))
	}
	err := l.Retry(t.Context(), tasks.NewProducer(b.rdb), ledger.RetryOptions{
		Batch: "b", Outcome: tasks.Cancelled, Enqueue: []tasks.EnqueueOption{tasks.AllowUnserved()},
		Each: func(_ tasks.Failure, res tasks.Result, err error) {
			if err != nil || res.Status != tasks.Enqueued {
				t.Errorf("%+v, %v", res, err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.until(func() bool { return b.standing("b").Ended(time.Now()) })
	if got := b.standing("b"); got.Total != 5 || got.Outcomes[tasks.Recalled] != 5 || got.Failed() != 0 {
		t.Errorf("%+v", got)
	}
	for _, id := range ids {
		if b.vendor.count(id) != 1 {
			t.Errorf("%s was called %d times", id, b.vendor.count(id))
		}
	}
}
