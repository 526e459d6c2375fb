package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

const (
	urgentQueue = "jiguang:news"
	bulkQueue   = "jiguang:news:bulk"
)

var (
	bulk    = tasks.WithPriority(tasks.Bulk)
	message = tasks.Recall{Provider: "jiguang", MessageID: "v:1t:1795132800p:27133n:2", Ref: "r"}
)

func withBatch(r tasks.Recall, batch string, seq int64) tasks.Recall {
	r.Batch, r.Seq = batch, seq
	return r
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		for name, test := range map[string]struct {
			opts  []tasks.EnqueueOption
			id    string
			queue string
		}{
			"urgent": {nil, "1", urgentQueue},
			"bulk":   {[]tasks.EnqueueOption{bulk}, "2", bulkQueue},
		} {
			r := tasks.Recall{Provider: "jiguang", MessageID: test.id, SentAt: midnight, Batch: "b", Seq: 5, Ref: "r"}
			got := enqueue(t, p, r, test.opts...)
			r.V, r.App, r.EnqueuedAt, r.RecallBy = 1, "news", now, midnight.Add(24*time.Hour)
			want := tasks.Result{ID: r.ID(), Status: tasks.Enqueued, App: "news", RecallBy: r.RecallBy, Queue: test.queue}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(test.queue, r.ID())
			if err != nil {
				t.Fatal(err)
			}
			if info.Type != "recall:jiguang" || info.MaxRetry != 1<<20 || info.Timeout != 15*time.Minute ||
				info.Retention != 24*time.Hour || !info.Deadline.IsZero() || info.State != asynq.TaskStatePending {
				t.Errorf("%s: %+v", name, info)
			}
			if diff := cmp.Diff(r, inQueue(t, rdb, test.queue, r.ID())); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

// What an earlier task of the same recall means, in whatever state it is, in either queue.
func TestEnqueuedAgain(t *testing.T) {
	t.Parallel()
	type act func(t *testing.T, rdb *redis.Client, queue, id string)
	nothing := func(*testing.T, *redis.Client, string, string) {}
	ended := func(outcome string, result error) act {
		return func(t *testing.T, rdb *redis.Client, queue, id string) { end(t, rdb, queue, id, outcome, result) }
	}
	skip := fmt.Errorf("given up: %w", asynq.SkipRetry)
	stands := []struct {
		name     string
		act      act
		standing string
		replaced bool
		moves    bool // an urgent one takes it from the bulk queue
	}{
		{"pending", nothing, "open", false, true},
		{"waits for its retry", ended("", errLater), "open", false, true},
		{"active", func(t *testing.T, rdb *redis.Client, queue, id string) { hold(t, rdb, queue, id) }, "open", false, false},
		{"recalled", ended(tasks.Recalled, nil), "recalled", false, false},
		{"already recalled", ended(tasks.AlreadyRecalled, nil), "already_recalled", false, false},
		{"completed without a result", ended("", nil), "ended", false, false},
		{"recalled, then archived by hand", ended(tasks.Recalled, skip), "recalled", false, false},
		{"expired", ended(tasks.Expired, skip), "expired", true, false},
		{"not found", ended(tasks.NotFound, skip), "not_found", true, false},
		{"rejected", ended(tasks.Rejected, skip), "rejected", true, false},
		{"cancelled", ended(tasks.Cancelled, skip), "cancelled", true, false},
		{"archived without an outcome", ended("", skip), "ended", true, false},
		{"archived, run again by hand", func(t *testing.T, rdb *redis.Client, queue, id string) {
			end(t, rdb, queue, id, tasks.Rejected, skip)
			if err := asynq.NewInspectorFromRedisClient(rdb).RunTask(queue, id); err != nil {
				t.Fatal(err)
			}
		}, "rejected", true, false},
		{"archived, and left behind by ArchiveAll", func(t *testing.T, rdb *redis.Client, queue, id string) {
			end(t, rdb, queue, id, tasks.Rejected, skip)
			if err := rdb.ZRem(t.Context(), "asynq:{"+queue+"}:archived", id).Err(); err != nil {
				t.Fatal(err)
			}
		}, "rejected", true, false},
	}
	queues := map[tasks.Priority]string{tasks.Urgent: urgentQueue, tasks.Bulk: bulkQueue}
	for _, s := range stands {
		for _, first := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			for _, second := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
				t.Run(fmt.Sprintf("%s/%s then %s", s.name, first, second), func(t *testing.T) {
					t.Parallel()
					onBoth(t, func(t *testing.T, rdb *redis.Client) {
						p := newProducer(t, rdb)
						one := enqueue(t, p, withBatch(message, "first", 7), tasks.WithPriority(first))
						s.act(t, rdb, one.Queue, one.ID)
						again := withBatch(message, "second", 1)
						again.Ref = "again"
						foretold := peek(t, rdb, second, again)
						got := enqueue(t, p, again, tasks.WithPriority(second))
						if diff := cmp.Diff(got, foretold); diff != "" {
							t.Errorf("foretold otherwise: %s", diff)
						}

						moved := s.moves && first == tasks.Bulk && second == tasks.Urgent
						want := tasks.Result{
							ID: one.ID, Status: tasks.Duplicate, App: "news", RecallBy: one.RecallBy, Queue: queues[first], Promoted: moved, Replaced: s.replaced,
							Existing: tasks.Existing{Standing: s.standing, Batch: "first", Seq: 7},
						}
						if s.replaced {
							want.Status, want.Queue = tasks.Enqueued, queues[second]
						}
						if moved {
							want.Queue = queues[second]
						}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Error(diff)
						}
						recall := inQueue(t, rdb, want.Queue, one.ID)
						if kept := recall.Batch == "first" && recall.Seq == 7 && recall.Ref == "r"; kept == s.replaced {
							t.Errorf("the payload is %+v", recall)
						}
						if elsewhere := tasks.Queue("jiguang", "news", other(want.Queue)); stateOf(t, rdb, elsewhere, one.ID) != 0 {
							t.Errorf("there is a copy in %s as well", elsewhere)
						}
						if n := entries(t, rdb, one.ID); n != 1 {
							t.Errorf("asynq has it in %d lists", n)
						}
					})
				})
			}
		}
	}
}

// A lot asks about the other queue as a whole before it asks for its recalls there: a task alone in any of the states is seen.
func TestALotSeesWhatIsInTheOtherQueue(t *testing.T) {
	t.Parallel()
	ended := func(result error) func(*testing.T, *redis.Client, string, string) {
		return func(t *testing.T, rdb *redis.Client, queue, id string) { end(t, rdb, queue, id, "", result) }
	}
	for state, act := range map[string]func(t *testing.T, rdb *redis.Client, queue, id string){
		"pending":   func(*testing.T, *redis.Client, string, string) {},
		"active":    func(t *testing.T, rdb *redis.Client, queue, id string) { hold(t, rdb, queue, id) },
		"retry":     ended(errLater),
		"completed": ended(nil),
		"archived":  ended(fmt.Errorf("given up: %w", asynq.SkipRetry)),
		"scheduled": func(t *testing.T, rdb *redis.Client, queue, id string) {
			key := tasks.TaskKey(queue, id)
			if err := rdb.Rename(t.Context(), tasks.QueueKey(queue, "pending"), "gone").Err(); err != nil {
				t.Fatal(err)
			}
			rdb.HSet(t.Context(), key, "state", "scheduled")
			rdb.ZAdd(t.Context(), tasks.QueueKey(queue, "scheduled"), redis.Z{Score: float64(now.Add(time.Hour).Unix()), Member: id})
		},
	} {
		for _, first := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			t.Run(fmt.Sprintf("%s, %s", state, first), func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, rdb *redis.Client) {
					p := realProducer(t, rdb)
					one := enqueue(t, p, row("1"), tasks.WithPriority(first))
					act(t, rdb, one.Queue, one.ID)
					if n := entries(t, rdb, one.ID); n != 1 {
						t.Fatalf("asynq has it in %d lists to begin with", n)
					}
					got := openBatch(t, p, "b").EnqueueAll(t.Context(), []tasks.Recall{row("1")}, tasks.WithPriority(other(one.Queue)))[0]
					var want tasks.Status = tasks.Duplicate
					if state == "archived" {
						want = tasks.Enqueued
					}
					if got.Err != nil || got.Result.Status != want {
						t.Errorf("%+v", got)
					}
					if n := entries(t, rdb, one.ID); n != 1 {
						t.Errorf("asynq has it in %d lists", n)
					}
				})
			})
		}
	}
}

// entries counts in how many of asynq's lists and sets, of both queues, a task stands.
func entries(t *testing.T, rdb *redis.Client, id string) (n int) {
	t.Helper()
	for _, queue := range []string{urgentQueue, bulkQueue} {
		prefix := "asynq:{" + queue + "}:"
		for _, list := range []string{"pending", "active"} {
			for _, have := range rdb.LRange(t.Context(), prefix+list, 0, -1).Val() {
				if have == id {
					n++
				}
			}
		}
		for _, set := range []string{"scheduled", "retry", "archived", "completed"} {
			if rdb.ZScore(t.Context(), prefix+set, id).Err() == nil {
				n++
			}
		}
	}
	return n
}

func other(queue string) tasks.Priority {
	if strings.HasSuffix(queue, ":bulk") {
		return tasks.Urgent
	}
	return tasks.Bulk
}

// What is left when a task is deleted while a worker still writes its marks would be in the way for ever: asynq sees the hash.
func TestTheRestOfADeletedTaskIsNotInTheWay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		one := enqueue(t, p, message)
		if err := asynq.NewInspectorFromRedisClient(rdb).DeleteTask(one.Queue, one.ID); err != nil {
			t.Fatal(err)
		}
		if err := rdb.HSet(t.Context(), tasks.TaskKey(one.Queue, one.ID), "rq_calls", 1).Err(); err != nil {
			t.Fatal(err)
		}
		got := enqueue(t, p, message)
		if got.Status != tasks.Enqueued || got.Replaced || stateOf(t, rdb, one.Queue, one.ID) != asynq.TaskStatePending {
			t.Errorf("%+v", got)
		}
	})
}

// A moved task keeps what the worker has written at it: calls that may have gone through, attempts made.
func TestAMovedTaskKeepsTheWorkersMarks(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		one := enqueue(t, p, message, bulk)
		end(t, rdb, one.Queue, one.ID, "", errLater)
		if err := rdb.HSet(t.Context(), tasks.TaskKey(one.Queue, one.ID), "rq_calls", 2, "rq_attempts", 1).Err(); err != nil {
			t.Fatal(err)
		}
		if got := enqueue(t, p, message); !got.Promoted {
			t.Fatalf("%+v", got)
		}
		headers := make(chan map[string]string, 1)
		worker{func(_ context.Context, task *asynq.Task) error {
			headers <- task.Headers()
			return nil
		}}.start(t, rdb, urgentQueue)
		if diff := cmp.Diff(map[string]string{"rq_calls": "2", "rq_attempts": "1"}, <-headers); diff != "" {
			t.Error(diff)
		}
	})
}

// A worker that has had the recall in its hands while it was being moved leaves other marks. They are not lost.
func TestMarksThatChangeMeanwhileAreKept(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		for _, changed := range []string{"rq_attempts", "rq_maybe"} {
			rdb.FlushAll(t.Context())
			one := enqueue(t, newProducer(t, rdb), message, bulk)
			key := tasks.TaskKey(one.Queue, one.ID)
			if err := rdb.HSet(t.Context(), key, "rq_attempts", 1).Err(); err != nil {
				t.Fatal(err)
			}
			moving := redis.NewClient(rdb.Options())
			defer func() { _ = moving.Close() }()
			var once sync.Once
			moving.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
				if script(cmd, 5) {
					once.Do(func() { rdb.HSet(ctx, key, changed, 2) })
				}
				return next(ctx, cmd)
			}))
			if got := enqueue(t, newProducer(t, moving), message); !got.Promoted {
				t.Fatalf("%+v", got)
			}
			headers := make(chan map[string]string, 1)
			stop := worker{func(_ context.Context, task *asynq.Task) error {
				headers <- task.Headers()
				return nil
			}}.start(t, rdb, urgentQueue)
			if got := <-headers; got[changed] != "2" {
				t.Errorf("%v", got)
			}
			stop()
		}
	})
}

// A recall that failed after a call whose answer was lost is enqueued again: its vendor may say that it does not know the message
// because that call went through.
func TestAReplacedTaskKeepsThatACallMayHaveGoneThrough(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		for _, again := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			rdb.FlushAll(t.Context())
			p := newProducer(t, rdb)
			one := enqueue(t, p, message)
			if err := rdb.HSet(t.Context(), tasks.TaskKey(one.Queue, one.ID), "rq_maybe", 1, "rq_attempts", 3).Err(); err != nil {
				t.Fatal(err)
			}
			end(t, rdb, one.Queue, one.ID, tasks.Cancelled, asynq.SkipRetry)
			got := enqueue(t, p, message, tasks.WithPriority(again))
			if !got.Replaced {
				t.Fatalf("%+v", got)
			}
			headers := make(chan map[string]string, 1)
			stop := worker{func(_ context.Context, task *asynq.Task) error {
				headers <- task.Headers()
				return nil
			}}.start(t, rdb, got.Queue)
			if diff := cmp.Diff(map[string]string{"rq_maybe": "1"}, <-headers); diff != "" {
				t.Error(diff)
			}
			stop()
		}
	})
}

// A payload that a newer producer has written is moved as it is.
func TestAMovedTaskKeepsANewerPayload(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := newProducer(t, rdb)
	r := message
	r.App = "news"
	const newer = `{"v":2,"provider":"jiguang","app":"news","batch":"b","seq":3,"novelty":[1]}`
	client := asynq.NewClientFromRedisClient(rdb)
	if _, err := client.Enqueue(asynq.NewTask("recall:jiguang", []byte(newer)), asynq.TaskID(r.ID()), asynq.Queue(bulkQueue)); err != nil {
		t.Fatal(err)
	}
	got := enqueue(t, p, message)
	if !got.Promoted || got.Existing != (tasks.Existing{Standing: "open", Batch: "b", Seq: 3}) {
		t.Errorf("%+v", got)
	}
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(urgentQueue, r.ID())
	if err != nil || string(info.Payload) != newer {
		t.Errorf("%s, %v", info.Payload, err)
	}
}

func TestWhatEnqueueRefuses(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := newProducer(t, rdb)
	for field, r := range map[string]tasks.Recall{
		"provider":   {Provider: "smoke", MessageID: "1", SentAt: now},
		"message_id": {Provider: "timchat", App: "chat", MessageID: "1", From: "a", To: "b", SentAt: now},
		"to":         {Provider: "timchat", App: "chat", MessageID: timChatID, From: "a"},
		"from":       {Provider: "jiguang", MessageID: "1", From: "a", SentAt: now},
		"is_admin":   {Provider: "jiguang", MessageID: "1", IsAdmin: true, SentAt: now},
		"sent_at":    {Provider: "jiguang", MessageID: "1"},
		"ref":        {Provider: "jiguang", MessageID: "1", SentAt: now, Ref: "\xff"},
		"batch":      {Provider: "jiguang", MessageID: "1", SentAt: now, Batch: "a b"},
		"app":        {Provider: "jiguang", App: "BIG", MessageID: "1", SentAt: now},
	} {
		var refused *tasks.FieldError
		if res, err := p.Enqueue(t.Context(), r); !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%s: %+v, %v", field, res, err)
		}
	}
	if res, err := p.Enqueue(t.Context(), message, tasks.WithPriority("soon")); err == nil {
		t.Errorf("%+v", res)
	}
	late := message
	late.SentAt = now.Add(-25 * time.Hour)
	late.MessageID = "1"
	res := enqueue(t, p, late)
	if res.Status != tasks.Expired || res.RecallBy != now.Add(-time.Hour) || res.ID == "" {
		t.Errorf("%+v", res)
	}
	if keys := rdb.Keys(t.Context(), "asynq:*").Val(); len(keys) != 0 {
		t.Errorf("something was written: %v", keys)
	}
}

func TestALaneThatNoWorkerHasPublished(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := newProducer(t, rdb)
	r := tasks.Recall{Provider: "timpush", App: "chat", MessageID: "6aff9000_1", SentAt: midnight}
	if res, err := p.Enqueue(t.Context(), r); !errors.Is(err, tasks.ErrUnserved) {
		t.Fatalf("%+v, %v", res, err)
	}
	if res := enqueue(t, p, r, tasks.AllowUnserved()); res.Status != tasks.Enqueued || res.RecallBy != midnight.Add(24*time.Hour) {
		t.Errorf("%+v", res)
	}
}

// A worker that has just started must not be missed for the five seconds that lanes are cached, and a lane's own window and
// retention are used.
func TestALanePublishedMeanwhileIsSeen(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := newProducer(t, rdb)
	enqueue(t, p, message)
	publish(t, rdb, tasks.Lane{Provider: "engagelab", App: "abroad", Window: 30 * time.Hour, Retention: time.Hour})
	r := tasks.Recall{Provider: "engagelab", MessageID: "1", SentAt: midnight}
	var res tasks.Result
	eventually(t, func() bool {
		var err error
		res, err = p.Enqueue(t.Context(), r)
		if err != nil && !errors.Is(err, tasks.ErrUnserved) {
			t.Fatal(err)
		}
		return err == nil
	})
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(res.Queue, res.ID)
	if err != nil || info.Retention != time.Hour || res.RecallBy != midnight.Add(30*time.Hour) {
		t.Errorf("%+v, %+v, %v", res, info, err)
	}
}

// A file of a million rows for a lane that nobody serves must not read the lanes a million times.
func TestLanesAreReadRarely(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	reads := 0
	rdb.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if cmd.Name() == "hgetall" {
			reads++
		}
		return next(ctx, cmd)
	}))
	p := newProducer(t, rdb)
	begin := time.Now()
	for range 200 {
		_, _ = p.Enqueue(t.Context(), tasks.Recall{Provider: "timpush", App: "x", MessageID: "a_1", SentAt: now})
		enqueue(t, p, message)
	}
	if most := 2 + int(time.Since(begin)/time.Second); reads > most {
		t.Errorf("read %d times", reads)
	}
}

func TestIdleWorkersAreWoken(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		sub := rdb.Subscribe(t.Context(), tasks.WakeChannel)
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		woken := func() string {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return m.Payload
		}
		r := message
		for _, want := range []string{bulkQueue, urgentQueue, urgentQueue} { // the third is moved
			r.MessageID += "0"
			switch {
			case want == bulkQueue:
				enqueue(t, p, r, bulk)
				r.MessageID = message.MessageID
			default:
				enqueue(t, p, r)
			}
			if got := woken(); got != want {
				t.Fatalf("woken: %s, want %s", got, want)
			}
		}
	})
}

// Of two bulk recalls that come right after each other, the second is told, too, a moment later, or when the batch is closed.
func TestTheSecondOfABurstIsWokenFor(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		sub := rdb.Subscribe(t.Context(), tasks.WakeChannel)
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		woken := func(within time.Duration) bool {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			_, err := sub.ReceiveMessage(ctx)
			return err == nil
		}
		p := newProducer(t, rdb)
		r := message
		for range 2 { // how ever long that takes, each is told
			r.MessageID += "0"
			enqueue(t, p, r, bulk)
		}
		for range 2 {
			if !woken(10 * time.Second) {
				t.Error("the second was not told")
			}
		}
		b := openBatch(t, realProducer(t, rdb), "b")
		add(t, b, "1", bulk)
		add(t, b, "2", bulk)
		if err := errors.Join(b.Close(t.Context()), b.Close(t.Context())); err != nil {
			t.Error(err)
		}
		for range 2 {
			if !woken(10 * time.Second) {
				t.Error("the batch's second was not told")
			}
		}
		if woken(200 * time.Millisecond) {
			t.Error("more was told than there is")
		}
	})
}

// A burst wakes once at once and once a moment later, for all that came in between.
func TestABurstWakesTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w tasks.Wakes
		var told atomic.Int64
		tell := func() { told.Add(1) }
		burst := func(want int64) {
			t.Helper()
			for range 5 {
				if w.Due("q", tell) {
					tell()
				}
			}
			synctest.Wait()
			if n := told.Load(); n != want {
				t.Errorf("told %d times, not %d", n, want)
			}
		}
		burst(1)
		time.Sleep(60 * time.Millisecond)
		burst(2) // too soon after what was told late
		time.Sleep(time.Second)
		burst(4)
		if queues := w.TakeAll(); len(queues) != 1 || len(w.TakeAll()) != 0 {
			t.Errorf("%q", queues)
		}
		time.Sleep(time.Second)
		burst(5) // what was taken is not told again
		time.Sleep(time.Second)
	})
}

func TestOfManyProducersOneEnqueues(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		newProducer(t, rdb)
		const recalls, producers = 20, 16
		var mu sync.Mutex
		got := map[string]map[tasks.Status]int{}
		var wg sync.WaitGroup
		for range producers {
			p := tasks.NewProducer(rdb) // with its own clock
			wg.Go(func() {
				for i := range recalls {
					r := tasks.Recall{Provider: "jiguang", MessageID: fmt.Sprint(i), SentAt: time.Now()}
					res, err := p.Enqueue(t.Context(), r)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if got[res.ID] == nil {
						got[res.ID] = map[tasks.Status]int{}
					}
					got[res.ID][res.Status]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, n := range got {
			if n[tasks.Enqueued] != 1 || n[tasks.Duplicate] != producers-1 {
				t.Errorf("%s: %v", id, n)
			}
		}
		if len(got) != recalls {
			t.Errorf("%d recalls", len(got))
		}
	})
}

// Whatever the workers do while bulk recalls are enqueued urgent, each is worked on exactly once.
func TestPromotionAgainstWorkersLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		const n = 300
		list := make([]tasks.Recall, n)
		for i := range list {
			list[i] = tasks.Recall{Provider: "jiguang", MessageID: fmt.Sprint(i), SentAt: now, Batch: "b", Seq: int64(i + 1)}
			enqueue(t, p, list[i], bulk)
		}
		var mu sync.Mutex
		calls := map[int64]int{}
		worker{func(_ context.Context, task *asynq.Task) error {
			r, err := tasks.Decode(task.Payload())
			mu.Lock()
			defer mu.Unlock()
			calls[r.Seq]++
			return err
		}}.start(t, rdb, urgentQueue, bulkQueue)
		var wg sync.WaitGroup
		for half := range 2 {
			wg.Go(func() {
				for i := n - 1 - half; i >= 0; i -= 2 { // from the end that the workers reach last
					again := list[i]
					again.Batch, again.Seq = "", 0
					res, err := p.Enqueue(t.Context(), again)
					if err != nil || res.Status != tasks.Duplicate || res.Existing.Batch != "b" {
						t.Errorf("%+v, %v", res, err)
					}
				}
			})
		}
		wg.Wait()
		eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(calls) == n
		})
		mu.Lock()
		defer mu.Unlock()
		for seq, times := range calls {
			if times != 1 {
				t.Errorf("recall %d was worked on %d times", seq, times)
			}
		}
	})
}

// hook makes a function a hook of the Redis client.
type hook func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h(ctx, cmd, next) }
}

// script tells the scripts apart by their number of keys: asynq's enqueue has two, our removal three, our move five.
func script(cmd redis.Cmder, keys int) bool {
	args := cmd.Args()
	return strings.HasPrefix(cmd.Name(), "eval") && len(args) > 2 && fmt.Sprint(args[2]) == fmt.Sprint(keys)
}

// A person who presses Ctrl-C in the very moment must not lose the recall that is between two queues.
func TestTheEndOfTheContextDoesNotLoseAMovedRecall(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		one := enqueue(t, newProducer(t, rdb), withBatch(message, "b", 1), bulk)
		ctx, cancel := context.WithCancel(t.Context())
		interrupted := redis.NewClient(rdb.Options())
		defer func() { _ = interrupted.Close() }()
		interrupted.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			err := next(ctx, cmd)
			if script(cmd, 5) && err == nil {
				cancel()
			}
			return err
		}))
		res, err := newProducer(t, interrupted).Enqueue(ctx, message)
		if err != nil || !res.Promoted || ctx.Err() == nil {
			t.Fatalf("%+v, %v, %v", res, err, ctx.Err())
		}
		if r := inQueue(t, rdb, urgentQueue, one.ID); r.Batch != "b" {
			t.Errorf("%+v", r)
		}
	})
}

// Redis stutters while a recall is moved: the answer is lost, or the command.
func TestAStutterOfRedisDoesNotLoseAMovedRecall(t *testing.T) {
	t.Parallel()
	for name, arrives := range map[string]bool{"the answer is lost": true, "the command is lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, rdb *redis.Client) {
				first := message
				first.MessageID, first.SentAt = "first", now
				enqueue(t, newProducer(t, rdb), first, bulk)
				enqueue(t, newProducer(t, rdb), first) // Redis knows the script from then on
				one := enqueue(t, newProducer(t, rdb), withBatch(message, "b", 1), bulk)
				failures := 3
				stuttering := redis.NewClient(rdb.Options())
				defer func() { _ = stuttering.Close() }()
				stuttering.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
					if !script(cmd, 5) || failures == 0 {
						return next(ctx, cmd)
					}
					failures--
					if arrives {
						_ = next(ctx, cmd)
					}
					err := errors.New("connection reset")
					cmd.SetErr(err)
					return err
				}))
				res := enqueue(t, newProducer(t, stuttering), message)
				if !res.Promoted || res.Status != tasks.Duplicate || failures != 0 {
					t.Errorf("%+v", res)
				}
				if r := inQueue(t, rdb, urgentQueue, one.ID); r.Batch != "b" || stateOf(t, rdb, bulkQueue, one.ID) != 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A producer that is killed while it moves recalls, which is after any of its commands, leaves each in one of the two queues.
func TestAMoveThatIsBrokenOffLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		killed := errors.New("killed")
		for after := 0; ; after++ {
			rdb.FlushAll(t.Context())
			one := enqueue(t, newProducer(t, rdb), withBatch(message, "b", 1), bulk)
			left := after
			dying := redis.NewClient(rdb.Options())
			p := newProducer(t, dying)
			p.SetRescue(time.Millisecond)
			dying.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
				if left == 0 {
					cmd.SetErr(killed)
					return killed
				}
				left--
				return next(ctx, cmd)
			}))
			res, err := p.Enqueue(t.Context(), message)
			_ = dying.Close()
			in := 0
			for _, queue := range []string{urgentQueue, bulkQueue} {
				in += len(rdb.LRange(t.Context(), "asynq:{"+queue+"}:pending", 0, -1).Val())
			}
			if in != 1 {
				t.Fatalf("after %d commands it is in %d queues", after, in)
			}
			if err == nil && res.Promoted && left > 0 {
				if r := inQueue(t, rdb, urgentQueue, one.ID); r.Batch != "b" {
					t.Errorf("%+v", r)
				}
				return
			}
		}
	})
}

// The same for one that takes the place of a failed one. It has no batch, so that only the lost answer tells that the copy
// which is found then is its own.
func TestAStutterOfRedisIsNoDuplicate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		one := enqueue(t, newProducer(t, rdb), message)
		end(t, rdb, one.Queue, one.ID, tasks.Rejected, asynq.SkipRetry)
		stuttering := redis.NewClient(rdb.Options())
		defer func() { _ = stuttering.Close() }()
		removed, lost := false, false
		stuttering.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			err := next(ctx, cmd)
			removed = removed || script(cmd, 3) && err == nil
			if removed && !lost && script(cmd, 2) {
				lost = true
				err = errors.New("connection reset")
				cmd.SetErr(err)
			}
			return err
		}))
		again := message
		again.Ref = "mended"
		if res := enqueue(t, newProducer(t, stuttering), again); res.Status != tasks.Enqueued || !res.Replaced || !lost {
			t.Errorf("%+v, answer lost: %v", res, lost)
		}
	})
}

func TestARecallThatCannotBeWrittenAnyMoreSaysSo(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	failed := enqueue(t, newProducer(t, rdb), message)
	end(t, rdb, failed.Queue, failed.ID, tasks.Rejected, asynq.SkipRetry)
	away := redis.NewClient(rdb.Options())
	defer func() { _ = away.Close() }()
	removed := false
	away.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		removed = removed || script(cmd, 3)
		if removed && script(cmd, 2) {
			cmd.SetErr(errors.New("connection reset"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}))
	p := newProducer(t, away)
	p.SetRescue(50 * time.Millisecond)
	if _, err := p.Enqueue(t.Context(), message); err == nil || !strings.Contains(err.Error(), "enqueue it again") {
		t.Fatal(err)
	}
	if res := enqueue(t, newProducer(t, rdb), message); res.Status != tasks.Enqueued {
		t.Errorf("%+v", res)
	}
}

// go-redis sends a command again when its answer is lost; the conflict with what this very call wrote is no duplicate.
func TestAConflictWithOneselfIsNoDuplicate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		twice := redis.NewClient(rdb.Options())
		defer func() { _ = twice.Close() }()
		twice.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			if !script(cmd, 2) {
				return next(ctx, cmd)
			}
			if err := next(ctx, cmd); err != nil {
				return err // NOSCRIPT: asynq sends the script itself
			}
			return next(ctx, cmd)
		}))
		p := newProducer(t, twice)
		if res := enqueue(t, p, withBatch(message, "b", 1)); res.Status != tasks.Enqueued {
			t.Errorf("%+v", res)
		}
		if res := enqueue(t, p, withBatch(message, "b", 2)); res.Status != tasks.Duplicate {
			t.Errorf("%+v", res)
		}
	})
}

func TestAKilledRedisIsAnErrorAndThenGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := newProducer(t, s.Client(t))
	one := enqueue(t, p, message)
	s.Kill()
	if res, err := p.Enqueue(t.Context(), message); err == nil {
		t.Fatalf("%+v", res)
	}
	s.Restart()
	if res := enqueue(t, p, message); res.Status != tasks.Duplicate || res.ID != one.ID {
		t.Errorf("%+v", res)
	}
}

func BenchmarkEnqueue(b *testing.B) {
	s := redistest.Start(b, "--appendonly", "no")
	rdb := s.Client(b)
	p := newProducer(b, rdb)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		r := tasks.Recall{Provider: "jiguang", MessageID: fmt.Sprint(i), SentAt: now, Batch: "b", Seq: int64(i)}
		if res, err := p.Enqueue(b.Context(), r, bulk); err != nil || res.Status != tasks.Enqueued {
			b.Fatalf("%+v, %v", res, err)
		}
	}
}
