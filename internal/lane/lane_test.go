package lane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/redis/go-redis/v9/maintnotifications.(*CircuitBreakerManager).cleanupLoop"))
}

func eachRedis(t *testing.T, f func(t *testing.T, rdb *redis.Client)) {
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

// Three processes with four callers each, calls of any length up to more than the window: the vendor never sees more arrivals in
// any window than it allows.
func TestNoWindowEverHoldsMoreArrivalsThanItsLimit(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		limits := []providers.Limit{{Calls: 3, Per: 200 * time.Millisecond}, {Calls: 10, Per: time.Second}}
		var mu sync.Mutex
		var arrivals []time.Time
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for p := range 3 {
			l := New(rdb, Options{
				Provider: "timpush", App: "chat", Fingerprint: "f", Limits: limits,
				Timeout: time.Second, Instance: fmt.Sprint("p", p),
			})
			for caller := range 4 {
				wg.Go(func() {
					for range 4 {
						pass, err := l.Enter(t.Context(), stop, Ask{Urgent: caller == 0})
						var closed *Closed
						if errors.As(err, &closed) {
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						// On its way to the vendor, at the vendor, on its way back.
						time.Sleep(rand.N(30 * time.Millisecond))
						mu.Lock()
						arrivals = append(arrivals, time.Now())
						mu.Unlock()
						time.Sleep(rand.N(30 * time.Millisecond))
						if rand.N(8) == 0 {
							time.Sleep(300 * time.Millisecond)
						}
						if _, err := l.Settle(t.Context(), pass, Settlement{Class: OK, Written: true}); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		slices.SortFunc(arrivals, func(a, b time.Time) int { return a.Compare(b) })
		if len(arrivals) < 24 {
			t.Errorf("only %d calls were let through", len(arrivals))
		}
		for _, lim := range limits {
			for i := lim.Calls; i < len(arrivals); i++ {
				if gap := arrivals[i].Sub(arrivals[i-lim.Calls]); gap < lim.Per {
					t.Errorf("%d arrivals within %v, the limit is %s", lim.Calls+1, gap, lim)
				}
			}
		}
	})
}

func TestNothingPassesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	l := New(rdb, Options{Provider: "timpush", App: "chat", Timeout: time.Second, Instance: "p"})
	mr.Close()
	if pass, err := l.Enter(t.Context(), nil, Ask{}); err == nil {
		t.Errorf("passed with %+v", pass)
	}
}

func TestThoseWhoWaitLeaveWhenTheWorkerStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a", providers.Limit{Calls: 1, Per: 3 * time.Second})
	stop := make(chan struct{})
	if _, err := l.Enter(t.Context(), stop, Ask{}); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if _, err := l.Enter(t.Context(), stop, Ask{}); !errors.Is(err, ErrStopping) {
		t.Errorf("got %v, want ErrStopping", err)
	}
}

func TestALaneThatDoesNotOpenSoonSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	w.settle(l, w.goes(l, Ask{}), refused)
	_, err := l.Enter(t.Context(), nil, Ask{})
	var closed *Closed
	if !errors.As(err, &closed) || closed.Reason != "credentials" || closed.For != 30*time.Second {
		t.Fatalf("got %v, want closed for 30 s", err)
	}
}

func TestALaneThatOpensAfterRecallByIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a", providers.Limit{Calls: 1, Per: 4 * time.Second})
	w.settle(l, w.goes(l, Ask{}), noFault)
	soon, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := l.Enter(soon, nil, Ask{RecallBy: w.now.Add(2 * time.Second)})
	var closed *Closed
	if !errors.As(err, &closed) || closed.Reason != ReasonLimit {
		t.Fatalf("got %v, want closed by the limit", err)
	}
}

// spy counts the dequeues that get through to Redis.
type spy struct {
	redis.UniversalClient
	asked chan struct{}
}

func (s *spy) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	s.asked <- struct{}{}
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.Nil)
	return cmd
}

func dequeueKeys(queue string) []string {
	p := "asynq:{" + queue + "}:"
	return []string{p + "pending", p + "paused", p + "active", p + "lease"}
}

func TestAnEmptyQueueIsAskedAgainOnlyWhenWoken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &spy{UniversalClient: w.rdb, asked: make(chan struct{}, 10)}
	stop := make(chan struct{})
	d := NewDequeuer(s, w.process("a"), tasks.Urgent, stop)
	done := make(chan time.Duration)
	ask := func() {
		start := time.Now()
		if err := d.EvalSha(t.Context(), "sha", dequeueKeys("timpush:chat")).Err(); err != redis.Nil {
			t.Errorf("got %v, want empty", err)
		}
		done <- time.Since(start)
	}
	go ask()
	<-s.asked
	d.Wake()
	if took := <-done; took > 700*time.Millisecond {
		t.Errorf("woken after %v", took)
	}
	go ask()
	<-s.asked
	close(stop)
	if took := <-done; took > 700*time.Millisecond {
		t.Errorf("stopped after %v", took)
	}
	go ask()
	if took := <-done; took > 700*time.Millisecond {
		t.Errorf("a stopped dequeuer took %v", took)
	}
	if n := len(s.asked); n != 0 {
		t.Errorf("Redis was asked %d times after the stop", n)
	}
}

func TestAClosedLanesQueueIsLeftAloneUntilItOpens(t *testing.T) {
	t.Parallel()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	l := New(rdb, Options{Provider: "timpush", App: "chat", Timeout: time.Second, Instance: "p"})
	pass, err := l.Enter(t.Context(), nil, Ask{})
	if err != nil {
		t.Fatal(err)
	}
	fault := &providers.Fault{Kind: providers.Throttled, RetryAfter: 400 * time.Millisecond}
	closing := retry.Decide(retry.Call{Fault: fault, Now: time.Now(), RecallBy: time.Now().Add(time.Hour)}).Lane
	if _, err := l.Settle(t.Context(), pass, Settlement{Class: Throttled, Lane: closing}); err != nil {
		t.Fatal(err)
	}
	opens, _ := l.ClosedUntil()
	if _, err := mr.Lpush("asynq:{timpush:chat}:pending", "id"); err != nil {
		t.Fatal(err)
	}
	s := &spy{UniversalClient: rdb, asked: make(chan struct{}, 10)}
	d := NewDequeuer(s, l, tasks.Urgent, make(chan struct{}))
	for len(s.asked) == 0 {
		d.EvalSha(t.Context(), "sha", dequeueKeys("timpush:chat"))
	}
	if early := time.Until(opens); early > 0 {
		t.Errorf("Redis was asked for a recall %v before the lane opened", early)
	}
}

// Of two processes that are woken for one recall only one gets it. The slot that the other has claimed is free again at once, and a
// paused queue claims none.
func TestAClaimThatComesToNothingIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, paused := range map[string]bool{"another was quicker": false, "paused": true} {
		w := newWorld(t)
		l, other := w.process("a", perSecond), w.process("b", perSecond)
		_, _ = w.mr.Lpush("asynq:{timpush:chat}:pending", "id")
		if paused {
			_ = w.mr.Set("asynq:{timpush:chat}:paused", "1")
		}
		s := &spy{UniversalClient: w.rdb, asked: make(chan struct{}, 10)}
		d := NewDequeuer(s, l, tasks.Urgent, make(chan struct{}))
		l.note(w.now.Add(time.Millisecond), ReasonLimit, w.now)
		d.Wake() // it does not wait afterwards
		d.EvalSha(t.Context(), "sha", dequeueKeys("timpush:chat"))
		if asked := len(s.asked) == 1; asked == paused {
			t.Errorf("%s: asked for a recall: %t", name, asked)
		}
		w.goes(other, Ask{Urgent: true})
	}
}

// While a held lane is probed, nothing else is taken from its queues.
func TestAProbeLeavesTheQueueAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	w.settle(l, w.goes(l, Ask{}), refused)
	w.pass(30 * time.Second)
	probe, err := l.Enter(t.Context(), nil, Ask{})
	if err != nil || !probe.Probe {
		t.Fatal(probe, err)
	}
	until, why := l.ClosedUntil()
	if left := time.Until(until); why != "credentials" || left < 11*time.Second || left > 12*time.Second {
		t.Errorf("closed for %s (%s) while the probe is under way, want 12 s", left, why)
	}
	w.settle(l, probe, noFault)
	if until, _ := l.ClosedUntil(); time.Until(until) > 0 {
		t.Error("the lane is not asked again after its probe")
	}
}

func TestOtherScriptsPassThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &spy{UniversalClient: w.rdb, asked: make(chan struct{}, 10)}
	d := NewDequeuer(s, w.process("a"), tasks.Urgent, make(chan struct{}))
	d.EvalSha(t.Context(), "sha", []string{"asynq:{timpush:chat}:t:1", "asynq:{timpush:chat}:pending"})
	d.EvalSha(t.Context(), "sha", dequeueKeys("timpush:chat:bulk"))
	if n := len(s.asked); n != 2 {
		t.Errorf("%d of 2 scripts passed through", n)
	}
}

func TestScheduledTasksAreLookedForNowAndThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &spy{UniversalClient: w.rdb, asked: make(chan struct{}, 10)}
	d := NewDequeuer(s, w.process("a"), tasks.Urgent, make(chan struct{}))
	for range 5 {
		d.EvalSha(t.Context(), "sha", []string{"asynq:{timpush:chat}:scheduled", "asynq:{timpush:chat}:pending"})
		d.EvalSha(t.Context(), "sha", []string{"asynq:{timpush:chat}:retry", "asynq:{timpush:chat}:pending"})
	}
	if n := len(s.asked); n != 6 {
		t.Errorf("Redis was asked %d times, want 5 for the retries and 1 for scheduled tasks", n)
	}
}

// Two calls of this hour are made and two recalls wait: the third call of the day has its slot in an hour, the next one after
// Shanghai's midnight.
func TestABacklogKnowsTheCallsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec, _ := providers.Lookup(providers.RongCloud)
	l := w.process("a", spec.Limits...)
	w.skew(l)
	for range 2 {
		w.settle(l, w.goes(l, Ask{}), noFault)
	}
	for i := range 2 {
		_, _ = w.mr.Lpush("asynq:{timpush:chat:bulk}:pending", fmt.Sprint("id-", i))
	}
	b, err := l.Backlog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := 14*time.Hour + time.Second; (b.Takes - want).Abs() > time.Second {
		t.Errorf("takes %s, want %s", b.Takes, want)
	}
	s, err := ReadStatus(t.Context(), w.rdb, tasks.Lane{Provider: "timpush", App: "chat", Limits: spec.Limits}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	told := NewSchedule(spec.Limits, s.Opens(w.now), s.Made).Skip(s.Waiting()).Sub(w.now)
	if (b.Takes - told).Abs() > time.Second {
		t.Errorf("takes %s by the worker, %s by what enqueue lanes reads", b.Takes, told)
	}
}

// A lane that is throttled begins when the vendor lets it.
func TestABacklogBeginsWhenTheLaneOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a", perSecond)
	w.skew(l)
	w.settle(l, w.goes(l, Ask{}), &providers.Fault{Kind: providers.Throttled, RetryAfter: time.Minute})
	_, _ = w.mr.Lpush("asynq:{timpush:chat}:pending", "id")
	b, err := l.Backlog(t.Context())
	if err != nil || (b.Takes-time.Minute).Abs() > time.Second {
		t.Errorf("takes %s, %v", b.Takes, err)
	}
}

func TestTheNextExpiryIsThatOfWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	p := tasks.NewProducer(w.rdb, tasks.WithClock(func() time.Time { return w.now }))
	for id, left := range map[string]time.Duration{"ended": time.Hour, "waits": 5 * time.Hour} {
		_, err := p.Enqueue(t.Context(), tasks.Recall{
			Provider: "timpush", App: "chat", MessageID: id, SentAt: w.now.Add(left - day),
		}, tasks.AllowUnserved())
		if err != nil {
			t.Fatal(err)
		}
	}
	ended := tasks.Recall{Provider: "timpush", App: "chat", MessageID: "ended"}.ID()
	w.rdb.LRem(t.Context(), "asynq:{timpush:chat}:pending", 0, ended)
	b, err := l.Backlog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left := b.NextExpiry.Sub(w.now); b.Tasks != 1 || left != 5*time.Hour {
		t.Errorf("%d wait, the next window closes in %v", b.Tasks, left)
	}
}
