package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// left is a lane that was served until somebody took it out of the configuration, and two workers of another lane. They are
// not started: the tests sweep.
type left struct {
	*bench
	workers []*Worker
}

func newLeft(t *testing.T, rdb *redis.Client) *left {
	t.Helper()
	l := &left{bench: newBench(t, providers.Jiguang, rdb)}
	l.lane.App = "other"
	for i := range 2 {
		l.workers = append(l.workers, New(Options{
			Redis: rdb, Lanes: []Lane{l.lane}, Instance: fmt.Sprint("w", i), Metrics: metrics.New(), Log: zerolog.New(l),
		}))
	}
	l.seen(time.Now().Add(-tasks.SeenWithin - time.Second))
	return l
}

// seen publishes when a worker was last seen on the lane.
func (l *left) seen(at time.Time) {
	l.t.Helper()
	err := tasks.PublishLane(l.t.Context(), l.rdb, tasks.Lane{Provider: "jiguang", App: "app", Window: 24 * time.Hour, LastSeen: at})
	if err != nil {
		l.t.Fatal(err)
	}
}

// sweep lets both workers sweep, side by side.
func (l *left) sweep() {
	var wg sync.WaitGroup
	for _, w := range l.workers {
		wg.Go(func() { w.sweepUnserved(l.t.Context()) })
	}
	wg.Wait()
}

// open lists the ids of a state's tasks, in their order.
func (l *left) open(queue, state string) []string {
	l.t.Helper()
	key := "asynq:{" + queue + "}:" + state
	var ids []string
	var err error
	if state == "pending" || state == "active" {
		ids, err = l.rdb.LRange(l.t.Context(), key, 0, -1).Result()
	} else {
		ids, err = l.rdb.ZRange(l.t.Context(), key, 0, -1).Result()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return ids
}

// move puts a pending task into the set of another state, as asynq does.
func (l *left) move(res tasks.Result, state string, score time.Time) {
	l.t.Helper()
	prefix := "asynq:{" + res.Queue + "}:"
	pipe := l.rdb.TxPipeline()
	pipe.LRem(l.t.Context(), prefix+"pending", 1, res.ID)
	pipe.HSet(l.t.Context(), prefix+"t:"+res.ID, "state", state)
	set := prefix + state
	if state == "active" {
		pipe.LPush(l.t.Context(), prefix+"active", res.ID)
		set = prefix + "lease"
	}
	pipe.ZAdd(l.t.Context(), set, redis.Z{Score: float64(score.Unix()), Member: res.ID})
	if _, err := pipe.Exec(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

func eachRedis(t *testing.T, f func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		f(t, rdb)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, redistest.Start(t).Client(t))
	})
}

// Whatever state they were left in: those of the cancelled batch end as cancelled, the one whose window has closed as expired,
// each once though two workers look; the others stay where they are.
func TestRecallsOfALaneWithoutAWorkerEnd(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		l := newLeft(t, rdb)
		const inFive = 24*time.Hour - 5*time.Second
		wrong := l.batch("wrong", "pending", "retry", "scheduled", "active", "leased")
		good := l.batch("good", "stays-1", "stays-2", "stays-retry", "stays-scheduled", "stays-active")
		late := map[string]tasks.Result{"late": l.enqueue("late", time.Now().Add(-inFive)), "late-retry": l.enqueue("late-retry", time.Now().Add(-inFive))}
		long := time.Now().Add(-time.Hour)
		for _, m := range []struct {
			res   tasks.Result
			state string
			score time.Time
		}{
			{wrong["retry"], "retry", time.Now().Add(time.Minute)}, {wrong["scheduled"], "scheduled", long},
			{wrong["active"], "active", long}, {wrong["leased"], "active", time.Now().Add(20 * time.Second)},
			{late["late-retry"], "retry", long},
			{good["stays-retry"], "retry", long}, {good["stays-scheduled"], "scheduled", long}, {good["stays-active"], "active", long},
		} {
			l.move(m.res, m.state, m.score)
		}
		if err := ledger.New(rdb).Cancel(t.Context(), "wrong", "ops@host", time.Now()); err != nil {
			t.Fatal(err)
		}
		l.until(func() bool { return time.Now().After(late["late-retry"].RecallBy.Add(50 * time.Millisecond)) }) // it was enqueued last

		l.sweep()
		ended := l.outcomes(6)
		for id, want := range map[string]string{
			"pending": tasks.Cancelled, "retry": tasks.Cancelled, "scheduled": tasks.Cancelled, "active": tasks.Cancelled,
			"late": tasks.Expired, "late-retry": tasks.Expired,
		} {
			res, of := wrong[id], "wrong"
			if strings.HasPrefix(id, "late") {
				res, of = late[id], ""
			}
			if e := ended[id]; e["outcome"] != want || e["ref"] != "ref-"+id || e["batch"] != of || e["attempts"] != "0" {
				t.Errorf("%s ended as %v, want %s", id, e, want)
			}
			if info := l.info(res, asynq.TaskStateArchived); !strings.HasPrefix(info.LastErr, want+": the ") {
				t.Errorf("%s is archived with %q", id, info.LastErr)
			}
			if o := l.result(res); o.Outcome != want {
				t.Errorf("%s has the result %+v", id, o)
			}
		}
		if text := fmt.Sprint(ended["late"]["error"]); !strings.Contains(text, "window closed") || !strings.Contains(text, "no worker serves its lane") {
			t.Errorf("expired because %q", text)
		}
		if b := l.standing("wrong"); b.Total != 5 || b.Outcomes[tasks.Cancelled] != 4 || b.Open != 1 {
			t.Errorf("the cancelled batch stands at %+v", b)
		}
		for i := range 3 {
			if i > 0 {
				rdb.HDel(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app") // the next turn to look
				l.sweep()
			}
			for state, want := range map[string][]string{
				"pending": {good["stays-2"].ID, good["stays-1"].ID}, "retry": {good["stays-retry"].ID},
				"scheduled": {good["stays-scheduled"].ID}, "active": {good["stays-active"].ID, wrong["leased"].ID},
			} {
				if got := l.open("jiguang:app", state); !slices.Equal(got, want) {
					t.Errorf("%s is %v, want %v left", state, got, want)
				}
			}
		}
		if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != 6 {
			t.Errorf("%d entries of 6 outcomes", n)
		}
		if b := l.standing("good"); b.Open != 5 {
			t.Errorf("the other batch stands at %+v", b)
		}
		if n := len(l.vendor.called); n != 0 {
			t.Errorf("%d calls", n)
		}

		// The lease of the one that a dead worker had in its hands runs out.
		rdb.ZAdd(t.Context(), "asynq:{jiguang:app}:lease", redis.Z{Score: float64(long.Unix()), Member: wrong["leased"].ID})
		rdb.HDel(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app")
		l.sweep()
		if b := l.standing("wrong"); b.Outcomes[tasks.Cancelled] != 5 || !b.Ended(time.Now()) {
			t.Errorf("the cancelled batch stands at %+v", b)
		}
	})
}

// The windows of a queue that was looked through already close later: that is seen, and costs one look.
func TestALaneWithoutAWorkerIsLookedAtWhenAWindowCloses(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLeft(t, rdb)
	res := l.enqueue("later", time.Now().Add(-23*time.Hour))
	at := time.Now()
	mr.SetTime(at)
	pass := func(d time.Duration) {
		at = at.Add(d)
		mr.SetTime(at)
		l.sweep()
	}
	for range 3 {
		pass(time.Minute)
	}
	looks := func() string { return rdb.HGet(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app").Val() }
	before := looks()
	for range 50 {
		pass(time.Minute)
	}
	if now := looks(); before == "" || now != before {
		t.Errorf("looked at %s and again at %s, with no window closing in between", before, now)
	}
	if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != 0 {
		t.Fatalf("%d outcomes before the window has closed", n)
	}
	pass(10 * time.Minute)
	if e := l.outcomes(1)["later"]; e["outcome"] != tasks.Expired {
		t.Errorf("ended as %v", e)
	}
	l.info(res, asynq.TaskStateArchived)
	pass(time.Minute)
	if n := rdb.ZCount(t.Context(), tasks.DueKey("jiguang:app"), "-inf", fmt.Sprint(at.Unix())).Val(); n != 0 {
		t.Errorf("%d times of closing windows are left", n)
	}
}

// A worker was seen on the lane within the last minute: what is cancelled or too late there is for it to end.
func TestALaneThatIsServedIsLeftToItsWorker(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLeft(t, rdb)
	results := l.batch("wrong", "1")
	if err := ledger.New(rdb).Cancel(t.Context(), "wrong", "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	l.seen(time.Now().Add(-50 * time.Second))
	l.sweep()
	if got := l.open("jiguang:app", "pending"); !slices.Equal(got, []string{results["1"].ID}) {
		t.Fatalf("pending is %v", got)
	}
	l.seen(time.Now().Add(-70 * time.Second))
	l.sweep()
	if e := l.outcomes(1)["1"]; e["outcome"] != tasks.Cancelled {
		t.Errorf("ended as %v", e)
	}
	// A queue that nobody has ever published is unserved as well; another program's is not ours.
	rdb.Del(t.Context(), tasks.LanesKey)
	if err := rdb.SAdd(t.Context(), tasks.QueuesKey, "default", "mails:app").Err(); err != nil {
		t.Fatal(err)
	}
	l.sweep()
	for _, w := range l.workers {
		if len(w.unserved) != 1 || w.unserved["jiguang:app"] == nil {
			t.Errorf("%v count as unserved", w.unserved)
		}
	}
}

// What a payload of a newer version means only a newer worker knows: those of a cancelled batch wait for one, and are not looked
// at again and again meanwhile. Their windows close all the same.
func TestPayloadsOfANewerVersionAreNotFoundAsCancelled(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		l := newLeft(t, rdb)
		l.batch("wrong", "1")
		client := asynq.NewClientFromRedisClient(rdb)
		by := time.Now().Add(8 * time.Second)
		newer := map[string]tasks.Result{}
		for i, state := range []string{"pending", "retry", "active"} {
			payload := fmt.Sprintf(`{"v":%d,"provider":"jiguang","app":"app","message_id":%q,"recall_by":%q,"batch":"wrong","seq":%d}`,
				tasks.Version+1, state, tasks.FormatTime(by), i+2)
			res := tasks.Result{Queue: "jiguang:app", ID: state}
			_, err := client.EnqueueContext(t.Context(), asynq.NewTask("recall:jiguang", []byte(payload)),
				asynq.Queue(res.Queue), asynq.TaskID(res.ID), asynq.MaxRetry(tasks.MaxRetry))
			if err == nil {
				count := tasks.Count{Seq: int64(i + 2), ID: res.ID, As: tasks.Open, RecallBy: by}
				_, err = tasks.CountIn(t.Context(), rdb, "wrong", count)
			}
			if err != nil {
				t.Fatal(err)
			}
			rdb.ZAdd(t.Context(), tasks.DueKey(res.Queue), redis.Z{Score: float64(by.Unix()), Member: fmt.Sprint(by.Unix())})
			if newer[state] = res; state != "pending" {
				l.move(res, state, time.Now().Add(-time.Hour))
			}
		}
		if err := ledger.New(rdb).Cancel(t.Context(), "wrong", "ops", time.Now()); err != nil {
			t.Fatal(err)
		}
		sweep := func() {
			rdb.HDel(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app") // the next turn to look
			l.sweep()
		}
		sweep()
		if e := l.outcomes(1)["1"]; e["outcome"] != tasks.Cancelled {
			t.Errorf("ended as %v", e)
		}
		for range 3 {
			sweep()
		}
		for state, res := range newer {
			if got := l.open(res.Queue, state); !slices.Equal(got, []string{res.ID}) {
				t.Errorf("%s is %v", state, got)
			}
		}
		if n := strings.Count(l.logged(), "are ended"); n != 1 {
			t.Errorf("%d lines on what was found:\n%s", n, l.logged())
		}
		l.until(func() bool {
			sweep()
			return rdb.XLen(t.Context(), tasks.OutcomesKey).Val() == 4
		})
		for state := range newer {
			if e := l.outcomes(4)[state]; e["outcome"] != tasks.Expired {
				t.Errorf("%s ended as %v", state, e)
			}
		}
	})
}

// A lane that a newer worker has published cannot be read here, so nobody knows whether it is served: its queues are left alone.
// The others are looked after.
func TestALaneThatCannotBeReadKeepsNobodyFromTheOthers(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLeft(t, rdb)
	results := l.batch("wrong", "1")
	unknown := "jiguang:newer"
	b, err := tasks.NewProducer(rdb).OpenBatch(t.Context(), tasks.BatchOptions{Name: "wrong", By: "ops"})
	if err != nil {
		t.Fatal(err)
	}
	r := tasks.Recall{Provider: "jiguang", App: "newer", MessageID: "2", SentAt: time.Now()}
	res, err := b.Enqueue(t.Context(), r, tasks.AllowUnserved())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{unknown: `{"window":"two days"}`, "x": "\x1b[31m"} {
		if err := rdb.HSet(t.Context(), tasks.LanesKey, name, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.New(rdb).Cancel(t.Context(), "wrong", "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	w := l.workers[0]
	for range 3 {
		w.sweepUnserved(t.Context())
	}
	if e := l.outcomes(1)["1"]; e["outcome"] != tasks.Cancelled {
		t.Errorf("ended as %v", e)
	}
	l.info(results["1"], asynq.TaskStateArchived)
	if got := l.open(unknown, "pending"); !slices.Equal(got, []string{res.ID}) {
		t.Errorf("pending in the lane that cannot be read is %v", got)
	}
	for _, name := range []string{unknown, "x"} {
		if n := strings.Count(l.logged(), `"level":"warn","lane":"`+name+`"`); n != 1 {
			t.Errorf("%s is told of %d times:\n%s", name, n, l.logged())
		}
	}
	// It is removed, or has not been seen for long: then it is one as any other.
	rdb.HDel(t.Context(), tasks.LanesKey, unknown)
	w.sweepUnserved(t.Context())
	if e := l.outcomes(2)["2"]; e["outcome"] != tasks.Cancelled {
		t.Errorf("ended as %v", e)
	}
}

// The lane comes back while recalls of it are being ended: those that are good are called, the others end, each once.
func TestALaneThatComesBackWhileItsRecallsEndIsNotDisturbed(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	l := newLeft(t, rdb)
	const each = 300
	var wrong, good []string
	for i := range each {
		wrong = append(wrong, fmt.Sprint("wrong-", i))
		good = append(good, fmt.Sprint("good-", i))
	}
	l.batch("wrong", wrong...)
	l.batch("good", good...)
	if err := ledger.New(rdb).Cancel(t.Context(), "wrong", "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(l.sweep)
	l.until(func() bool { return rdb.XLen(t.Context(), tasks.OutcomesKey).Val() > each/10 })
	l.lane.App = "app"
	l.work()
	wg.Wait()
	l.outcomes(2 * each)
	if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != 2*each {
		t.Errorf("%d entries of %d outcomes", n, 2*each)
	}
	if b := l.standing("wrong"); b.Outcomes[tasks.Cancelled] != each {
		t.Errorf("the cancelled batch stands at %+v", b)
	}
	if b := l.standing("good"); b.Outcomes[tasks.Recalled] != each {
		t.Errorf("the good batch stands at %+v", b)
	}
	for _, id := range good {
		if n := l.vendor.count(id); n != 1 {
			t.Errorf("%s was called %d times", id, n)
		}
	}
}

// Between the look and the end somebody enqueues the batch again, which takes its cancellation back.
func TestARecallThatIsNotToEndAfterAllWaitsForItsLane(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLeft(t, rdb)
	res := l.batch("b", "1")["1"]
	if err := ledger.New(rdb).Cancel(t.Context(), "b", "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	w := l.workers[0]
	if err := w.findUnserved(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := w.unserved["jiguang:app"]
	if n, err := e.handler.dequeuer.SweepUnserved(t.Context(), []string{"b"}); n != 1 || err != nil {
		t.Fatalf("found %d, %v", n, err)
	}
	l.batch("b")
	if err := w.endFound(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if b := l.standing("b"); b.Open != 1 {
		t.Errorf("the batch stands at %+v", b)
	}
	if info := l.info(res, asynq.TaskStateRetry); info.LastErr != "no worker serves its lane" || info.Retried != 0 {
		t.Errorf("it waits with %q after %d retries", info.LastErr, info.Retried)
	}
	l.lane.App = "app"
	l.work()
	if e := l.outcomes(1)["1"]; e["outcome"] != tasks.Recalled || e["attempts"] != "1" {
		t.Errorf("ended as %v", e)
	}
}

// A cancelled batch has ended, though its input was not read to its end: nobody looks for its recalls any more. Its producer
// has not noticed, and enqueues another: that one is looked for, and ends.
func TestARowForACancelledBatchThatHasEndedEndsToo(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		l := newLeft(t, rdb)
		batch, err := tasks.NewProducer(rdb).OpenBatch(t.Context(), tasks.BatchOptions{Name: "b", By: "ops", Inputs: []string{"f.csv"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = batch.Close(context.Background()) })
		enqueue := func(id string) {
			t.Helper()
			r := tasks.Recall{Provider: "jiguang", App: "app", MessageID: id, SentAt: time.Now()}
			if _, err := batch.Enqueue(t.Context(), r, tasks.AllowUnserved()); err != nil {
				t.Fatal(err)
			}
			if err := batch.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		sweep := func() {
			t.Helper()
			rdb.HDel(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app") // the next turn to look
			l.sweep()
		}
		enqueue("1")
		if err := ledger.New(rdb).Cancel(t.Context(), "b", "ops", time.Now()); err != nil {
			t.Fatal(err)
		}
		sweep()
		l.outcomes(1)
		for range 3 { // until both have seen that there is nothing
			sweep()
		}
		enqueue("2")
		sweep()
		if e := l.outcomes(2)["2"]; e["outcome"] != tasks.Cancelled {
			t.Errorf("ended as %v", e)
		}
		if b := l.standing("b"); b.Total != 2 || b.Outcomes[tasks.Cancelled] != 2 || b.Reading != 1 || !b.Ended(time.Now()) {
			t.Errorf("the batch stands at %+v", b)
		}
		if n := len(l.vendor.called); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

// Two workers have found the same recalls, the second while the first is still ending them.
func TestTwoWorkersEndTheSameRecallsOnce(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		l := newLeft(t, rdb)
		const n = 100
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprint(i))
		}
		l.batch("b", ids...)
		if err := ledger.New(rdb).Cancel(t.Context(), "b", "ops", time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, w := range l.workers {
			if err := w.findUnserved(t.Context()); err != nil {
				t.Fatal(err)
			}
			found, err := w.unserved["jiguang:app"].handler.dequeuer.SweepUnserved(t.Context(), []string{"b"})
			if found != n || err != nil {
				t.Fatalf("found %d, %v", found, err)
			}
			rdb.HDel(t.Context(), "recallq:lane:{jiguang:app}", "sweep:jiguang:app") // the next turn to look
		}
		var wg sync.WaitGroup
		for _, w := range l.workers {
			wg.Go(func() {
				if err := w.endFound(t.Context(), w.unserved["jiguang:app"]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if entries := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); entries != n {
			t.Errorf("%d entries of %d outcomes", entries, n)
		}
		if b := l.standing("b"); b.Outcomes[tasks.Cancelled] != n || b.Open != 0 {
			t.Errorf("the batch stands at %+v", b)
		}
		if archived := l.open("jiguang:app", "archived"); len(archived) != n {
			t.Errorf("%d archived", len(archived))
		}
	})
}

// A counter that begins with its first outcome never increases, as far as an alert can tell: those of a lane that this worker does
// not serve are there from its start.
func TestOutcomesOfOthersLanesAreCountedFromZero(t *testing.T) {
	t.Parallel()
	b := newBench(t, providers.Jiguang, nil)
	m := metrics.New()
	served := b.lane
	served.App = "other"
	b.enqueue("1", time.Now()) // in a lane that nobody serves
	w := New(Options{Redis: b.rdb, Lanes: []Lane{served}, Instance: "w", Metrics: m, Log: zerolog.New(b)})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	began := time.Now()
	b.until(func() bool {
		n, there := scraped(m)[`recallq_outcomes_total{app="app",outcome="expired",provider="jiguang"}`]
		return there && n == 0
	})
	if took := time.Since(began); took > unservedEvery/2 {
		t.Errorf("it took %s, and recalls may end after %s", took, unservedEvery)
	}
	for series := range scraped(m) {
		if strings.Contains(series, `app="app"`) && !strings.HasPrefix(series, "recallq_outcomes_total{") {
			t.Errorf("%s is told of a lane that is not served here", series)
		}
	}
}
