package worker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

// handler is that of the urgent queue of a worker that does not run.
func (b *bench) handler() *handler {
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	return w.stations[0].servers[0].handler
}

// visit is a recall that the handler has in its hands.
func (b *bench) visit(res tasks.Result) *visit {
	b.t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(b.rdb).GetTaskInfo(res.Queue, res.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := tasks.Decode(info.Payload)
	if err != nil {
		b.t.Fatal(err)
	}
	return &visit{task: ledger.Task{Queue: res.Queue, ID: res.ID}, recall: r, since: time.Now(), looked: time.Now(), log: zerolog.New(b)}
}

func (b *bench) pass(h *handler) *lane.Pass {
	b.t.Helper()
	pass, err := h.lane.Enter(b.t.Context(), nil, lane.Ask{Urgent: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return pass
}

// No call starts on a pass that is too old to count on, nor, by the time that may have gone by since Redis was asked, at recall_by.
func TestNoCallOnAnOldPassOrAtRecallBy(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	h := b.handler()
	v := b.visit(b.enqueue("1", time.Now()))
	if m := h.call(t.Context(), v, &lane.Pass{Fingerprint: "f1"}); m.called {
		t.Error("a call was made on a pass of long ago")
	}
	v.recall.RecallBy = time.Now()
	if m := h.call(t.Context(), v, b.pass(h)); m.called {
		t.Error("a call was made at recall_by")
	}
	v.recall.RecallBy = time.Now().Add(time.Hour)
	if m := h.call(t.Context(), v, b.pass(h)); !m.called || b.vendor.count("1") != 1 {
		t.Errorf("%+v, %d calls", m, b.vendor.count("1"))
	}
}

// asynq takes the task's context away when Redis is gone for longer than a lease. The call is heard out.
func TestACallIsHeardOutWhenTheTaskIsTakenAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	ended := make(chan error, 1)
	b.lane.Provider = heard{b.vendor, ended}
	h := b.handler()
	v := b.visit(b.enqueue("1", time.Now()))
	pass := b.pass(h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m := h.call(ctx, v, pass); !m.called || m.fault != nil {
		t.Errorf("%+v", m)
	}
	if err := <-ended; err != nil {
		t.Errorf("the call's context has ended: %v", err)
	}
}

// heard tells whether the context of a call has ended.
type heard struct {
	*vendor
	ended chan error
}

func (h heard) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	h.ended <- ctx.Err()
	return h.vendor.Recall(ctx, req)
}

// EngageLab's answers can be read only if each call is on record before it is made. Where it cannot be, the recall goes back.
func TestNoCallThatCannotBePutOnRecord(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	b := newBench(t, providers.EngageLab, rdb)
	h := b.handler()
	v := b.visit(b.enqueue("1", time.Now()))
	pass := b.pass(h)
	mr.SetError("NOREPLICAS Not enough good replicas to write.")
	m := h.call(t.Context(), v, pass)
	if m.called || m.broken == nil {
		t.Fatalf("%+v", m)
	}
	again, err := h.record(t.Context(), v, pass, m, h.decide(v, pass, m))
	if again || err == nil {
		t.Errorf("called again at once: %v, %v", again, err)
	}
}

// What was answered last is told of a recall that is not called any more.
func TestTheCodeOfTheLastAnswerIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	h := b.handler()
	for id, state := range map[string]ledger.State{"late": {Attempts: 1, Code: "HTTP 503"}, "cancelled": {Code: "90051", Cancelled: "by alice"}} {
		res := b.enqueue(id, time.Now())
		v := b.visit(res)
		if err := h.ledger.Save(t.Context(), v.task, state); err != nil {
			t.Fatal(err)
		}
		if id == "late" {
			v.recall.RecallBy = time.Now()
		} else {
			v.recall.Batch = "b"
			if err := b.rdb.HSet(t.Context(), tasks.BatchKey("b"), "cancelled_at", "now", "cancelled_by", "alice").Err(); err != nil {
				t.Fatal(err)
			}
		}
		if done, _ := h.guard(t.Context(), v); !done {
			t.Fatal("it goes on")
		}
		if o := b.result(res); o.Code != state.Code {
			t.Errorf("%s: %+v", id, o)
		}
	}
}

// A recall that waited for its turn after a call is no new one.
func TestAPickupIsCountedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	b.vendor.answers("a", &providers.Fault{Kind: providers.Throttled, Code: "HTTP 429", RetryAfter: 6 * time.Second}) // not waited for in place
	h := b.handler()
	res := b.enqueue("a", time.Now())
	for range 2 {
		v := b.visit(res)
		if _, err := h.guard(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if err := b.rdb.Del(t.Context(), "recallq:lane:{timpush:app}").Err(); err != nil { // it has been waited for
			t.Fatal(err)
		}
		pass := b.pass(h)
		m := h.call(t.Context(), v, pass)
		_, _ = h.record(t.Context(), v, pass, m, h.decide(v, pass, m))
	}
	if n := b.vendor.count("a"); n != 2 {
		t.Fatalf("%d calls", n)
	}
	if n := scraped(h.metrics)[`recallq_pickup_seconds_count{app="app",provider="timpush"}`]; n != 1 {
		t.Errorf("picked up %v times", n)
	}
}

// 70001 gets one free retry with a new signature, and then is what it says.
func TestOneFreeRetryAfterARenewedSignature(t *testing.T) {
	t.Parallel()
	renewed := &providers.Fault{Kind: providers.Credentials, Code: "70001", Renewed: true}
	b := newBench(t, providers.TIMPush, nil)
	b.lane.Spec.Limits, b.lane.Limits = nil, nil
	b.vendor.answers("mended", renewed)
	mended := b.enqueue("mended", time.Now())
	stop := b.work()
	b.info(mended, asynq.TaskStateCompleted)
	if o := b.result(mended); o.Outcome != "recalled" || o.Attempts != 1 || b.vendor.count("mended") != 2 {
		t.Errorf("%+v after %d calls", o, b.vendor.count("mended"))
	}
	stop()
	b.vendor.answers("skewed", renewed, renewed, renewed, renewed)
	b.enqueue("skewed", time.Now())
	b.work()
	b.until(func() bool { return strings.Contains(b.logged(), "lane closed") })
	if n := b.vendor.count("skewed"); n != 2 {
		t.Errorf("%d calls before the lane was held, want 2", n)
	}
}

// 60011 is about both Tencent lanes of an SDKAppID, whichever process serves the other one.
func TestAWholeAccountIsThrottledInEveryProcess(t *testing.T) {
	t.Parallel()
	account := &providers.Fault{Kind: providers.Throttled, Code: "60011", WholeAccount: true}
	for _, sameProcess := range []bool{true, false} {
		push := newBench(t, providers.TIMPush, nil)
		push.lane.Account = "tencent:1"
		chat := newBench(t, providers.TIMChat, push.rdb)
		chat.lane.Account = "tencent:1"
		chat.vendor.answers("1_2_3", account)
		other := newBench(t, providers.Jiguang, push.rdb)
		lanes := [][]Lane{{push.lane, chat.lane, other.lane}}
		if !sameProcess {
			lanes = [][]Lane{{push.lane, other.lane}, {chat.lane}}
		}
		for i, list := range lanes {
			w := New(Options{Redis: push.rdb, Lanes: list, Instance: string(rune('a' + i)), Metrics: metrics.New(), Log: zerolog.Nop()})
			if err := w.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Stop)
		}
		chat.enqueue("1_2_3", time.Now())
		<-chat.vendor.called
		push.until(func() bool {
			until, _ := push.rdb.HGet(t.Context(), "recallq:lane:{timpush:app}", "shut_until").Int64()
			return time.UnixMilli(until).After(time.Now().Add(4 * time.Second))
		})
		if n := push.rdb.HExists(t.Context(), "recallq:lane:{jiguang:app}", "shut_until").Val(); n {
			t.Error("another account's lane is throttled")
		}
	}
}

// Any other throttling is the lane's own.
func TestOneLanesThrottlingIsNotItsAccounts(t *testing.T) {
	t.Parallel()
	push := newBench(t, providers.TIMPush, nil)
	push.lane.Account = "tencent:1"
	chat := newBench(t, providers.TIMChat, push.rdb)
	chat.lane.Account = "tencent:1"
	chat.vendor.answers("1_2_3", &providers.Fault{Kind: providers.Throttled, Code: "60018"})
	w := New(Options{Redis: push.rdb, Lanes: []Lane{push.lane, chat.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(chat)})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(w.Stop)
	t.Cleanup(stop)
	chat.enqueue("1_2_3", time.Now())
	chat.until(func() bool { return strings.Contains(chat.logged(), `"lane closed"`) })
	stop() // all that the answer leads to is done
	if push.rdb.HExists(t.Context(), "recallq:lane:{timpush:app}", "shut_until").Val() {
		t.Error("the account's other lane is throttled")
	}
}

// A call is made with the credentials that it was let through with, or not at all. What was not made is no call that may have gone through.
func TestACallThatIsNotMadeAfterAllLeavesNoMark(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.EngageLab, nil)
	h := b.handler()
	v := b.visit(b.enqueue("1001", time.Now()))
	pass := b.pass(h)
	pass.Fingerprint = "f0"
	if m := h.call(t.Context(), v, pass); m.called || b.vendor.count("1001") != 0 {
		t.Errorf("%+v, %d calls", m, b.vendor.count("1001"))
	}
	if s, err := h.ledger.Look(t.Context(), v.task); err != nil || s.Maybe {
		t.Errorf("%+v, %v", s, err)
	}
}

// A recall that alone is refused waits half a minute before it is tried again, from the first time on.
func TestARecallThatAloneIsRefusedWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	h := b.handler()
	b.vendor.answers("bad", refused)
	begin := func(id string) (*visit, *lane.Pass) {
		v := b.visit(b.enqueue(id, time.Now()))
		return v, b.pass(h)
	}
	end := func(v *visit, pass *lane.Pass) error {
		m := h.call(t.Context(), v, pass)
		_, err := h.record(t.Context(), v, pass, m, h.decide(v, pass, m))
		return err
	}
	if err := end(begin("first")); err != nil { // a lane starts with one call at a time
		t.Fatal(err)
	}
	bad, pass := begin("bad")
	b.until(func() bool { return time.Now().After(pass.Began.Add(2 * time.Millisecond)) })
	if err := end(begin("good")); err != nil {
		t.Fatal(err)
	}
	var waits *verdict
	if err := end(bad, pass); !errors.As(err, &waits) || waits.counted || waits.delay != 30*time.Second {
		t.Errorf("%+v", waits)
	}
	if hold, err := h.lane.Hold(t.Context()); err != nil || hold.Reason != "" {
		t.Errorf("the lane is held: %+v, %v", hold, err)
	}
}

// That a probe is refused says something of the lane, and nothing of the recall.
func TestAProbesRefusalDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	h := b.handler()
	b.vendor.answers("a", refused, refused)
	v := b.visit(b.enqueue("a", time.Now()))
	for want, probe := range []bool{true, false} {
		if err := b.rdb.Del(t.Context(), "recallq:lane:{jiguang:app}").Err(); err != nil {
			t.Fatal(err)
		}
		h.lane.Wake()
		pass := b.pass(h)
		pass.Probe = probe
		m := h.call(t.Context(), v, pass)
		_, _ = h.record(t.Context(), v, pass, m, h.decide(v, pass, m))
		if s, err := h.ledger.Look(t.Context(), v.task); err != nil || s.Refusals != want || s.Code != "70003" {
			t.Errorf("probe %v: %+v, %v", probe, s, err)
		}
	}
}

// Nor does the refusal that the free call with a renewed signature follows, and one refusal says nothing about others.
func TestARefusalBeforeARenewalDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.TIMPush, nil)
	h := b.handler()
	b.vendor.answers("a", refused, refused)
	v := b.visit(b.enqueue("a", time.Now()))
	for want, d := range []retry.Decision{{Action: retry.Again}, {Action: retry.Defer}} {
		pass := b.pass(h)
		m := h.call(t.Context(), v, pass)
		if c := h.ask(v, pass, m); c.OthersSucceed {
			t.Error("others are said to succeed where nobody was called")
		}
		h.remember(t.Context(), v, pass, m, d)
		if s, err := h.ledger.Look(t.Context(), v.task); err != nil || s.Refusals != want {
			t.Errorf("%s: %+v, %v", d.Action, s, err)
		}
		if _, err := h.lane.Settle(t.Context(), pass, lane.Settlement{Class: lane.Unmade}); err != nil {
			t.Fatal(err)
		}
	}
}

// What is kept no longer goes: outcomes after a day, archived tasks after a week, names of batches that are gone.
func TestAWorkerKeepsHouse(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	w := New(Options{Redis: b.rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	now := time.Now()
	old := now.Add(-8 * 24 * time.Hour)
	_, err := b.rdb.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for _, queue := range []string{"jiguang:app", "jiguang:app:bulk"} {
			pipe.ZAdd(t.Context(), "asynq:{"+queue+"}:archived", redis.Z{Score: float64(old.Unix()), Member: "old"}, redis.Z{Score: float64(now.Unix()), Member: "new"})
		}
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: tasks.OutcomesKey, ID: strconv.FormatInt(old.UnixMilli(), 10), Values: []any{"id", "old"}})
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: tasks.OutcomesKey, ID: strconv.FormatInt(now.UnixMilli(), 10), Values: []any{"id", "new"}})
		pipe.ZAdd(t.Context(), tasks.BatchesKey, redis.Z{Score: float64(old.UnixMilli()), Member: "gone"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.tidy(t.Context(), now)
	for _, queue := range []string{"jiguang:app", "jiguang:app:bulk"} {
		if left := b.rdb.ZRange(t.Context(), "asynq:{"+queue+"}:archived", 0, -1).Val(); !slices.Equal(left, []string{"new"}) {
			t.Errorf("%s: %v is archived", queue, left)
		}
	}
	if n := b.rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != 1 {
		t.Errorf("%d outcomes", n)
	}
	if n := b.rdb.ZCard(t.Context(), tasks.BatchesKey).Val(); n != 0 {
		t.Errorf("%d names of batches", n)
	}
}

// Redis has a fault of its own for a moment just when an outcome is to be written. The outcome is written, and nothing is called twice.
func TestAnOutcomeIsWrittenAgainAndAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	var failures atomic.Int32
	b.rdb.AddHook(stuttering{&failures})
	res := b.enqueue("1", time.Now())
	b.work()
	b.info(res, asynq.TaskStateCompleted)
	if failures.Load() != 2 || b.vendor.count("1") != 1 || len(b.outcomes(1)) != 1 {
		t.Errorf("%d failures, %d calls", failures.Load(), b.vendor.count("1"))
	}
	if n := strings.Count(b.logged(), "the outcome cannot be written; it is tried until it can"); n != 1 {
		t.Errorf("it was said %d times\n%s", n, b.logged())
	}
}

// stuttering fails the first two writes to the stream of outcomes.
type stuttering struct{ failures *atomic.Int32 }

func (s stuttering) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s stuttering) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := s.fail(cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (s stuttering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := s.fail(cmd); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

func (s stuttering) fail(cmd redis.Cmder) error {
	if cmd.Name() != "xadd" || s.failures.Load() >= 2 {
		return nil
	}
	s.failures.Add(1)
	cmd.SetErr(wrongType{})
	return wrongType{}
}

// wrongType is an answer of Redis's.
type wrongType struct{}

func (wrongType) Error() string {
	return "WRONGTYPE Operation against a key holding the wrong kind of value"
}
func (wrongType) RedisError() {}
