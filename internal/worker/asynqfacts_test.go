package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/retry"
)

// What recallq relies on in asynq v0.26 that its documentation does not promise. An upgrade that changes one of these fails here by
// name, and not in somebody's incident.

// rig is an asynq of its own.
type rig struct {
	t         *testing.T
	mr        *miniredis.Miniredis
	rdb       *redis.Client
	client    *asynq.Client
	inspector *asynq.Inspector
}

func newRig(t *testing.T) *rig {
	t.Helper()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return &rig{t, mr, rdb, asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)}
}

func (r *rig) serve(rdb redis.UniversalClient, handler asynq.HandlerFunc) *asynq.Server {
	r.t.Helper()
	srv := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"q": 1}, TaskCheckInterval: time.Millisecond, DelayedTaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc: retryDelay, IsFailure: isFailure, LogLevel: asynq.FatalLevel, ShutdownTimeout: 100 * time.Millisecond,
	})
	if err := srv.Start(handler); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(srv.Shutdown)
	return srv
}

func (r *rig) enqueue(id string, opts ...asynq.Option) error {
	_, err := r.client.Enqueue(asynq.NewTask("recall:x", []byte(id)), append(opts, asynq.Queue("q"), asynq.TaskID(id))...)
	return err
}

func (r *rig) state(id string, want asynq.TaskState) *asynq.TaskInfo {
	r.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		info, err := r.inspector.GetTaskInfo("q", id)
		if err == nil && info.State == want {
			return info
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s is %v (%v), want %v", id, info, err, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAsynqFact1ADeferralOnTheLastRetryIsArchived(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { return deferred("later", 0) })
	if err := r.enqueue("a", asynq.MaxRetry(0)); err != nil {
		t.Fatal(err)
	}
	r.state("a", asynq.TaskStateArchived)
}

func TestAsynqFact2ADeadlineInThePastNeverReachesTheHandler(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	called := make(chan struct{}, 10)
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { called <- struct{}{}; return nil })
	if err := r.enqueue("a", asynq.MaxRetry(0), asynq.Deadline(time.Now().Add(-time.Second))); err != nil {
		t.Fatal(err)
	}
	if info := r.state("a", asynq.TaskStateArchived); !strings.Contains(info.LastErr, "deadline") || len(called) > 0 {
		t.Errorf("archived with %q, handler called %d times", info.LastErr, len(called))
	}
}

func TestAsynqFact4ForeignErrorsAreNoAttempts(t *testing.T) {
	t.Parallel()
	for _, err := range []error{asynq.ErrLeaseExpired, context.Canceled, context.DeadlineExceeded} {
		if isFailure(err) || retryDelay(3, err, nil) != 0 {
			t.Errorf("%v counts as a failure, or waits", err)
		}
	}
	if panicked := errors.New("panic: boom"); !isFailure(panicked) || retryDelay(0, panicked, nil) < time.Second {
		t.Error("a panic does not count, or is tried again at once")
	}
	r := newRig(t)
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { panic("boom") })
	if err := r.enqueue("a", asynq.MaxRetry(5)); err != nil {
		t.Fatal(err)
	}
	if info := r.state("a", asynq.TaskStateRetry); info.Retried != 1 || !strings.Contains(info.LastErr, "boom") {
		t.Errorf("a panic is retried as %+v", info)
	}
}

func TestAsynqFact5IdsOfKeptTasksAreTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(r.rdb, func(_ context.Context, task *asynq.Task) error {
		if string(task.Payload()) == "bad" {
			return archived("rejected", "no")
		}
		return nil
	})
	for id, state := range map[string]asynq.TaskState{"bad": asynq.TaskStateArchived, "good": asynq.TaskStateCompleted} {
		if err := r.enqueue(id, asynq.Retention(time.Hour)); err != nil {
			t.Fatal(err)
		}
		r.state(id, state)
		if err := r.enqueue(id); !errors.Is(err, asynq.ErrTaskIDConflict) {
			t.Errorf("%s: %v, want a conflict", id, err)
		}
	}
	if err := r.inspector.DeleteTask("q", "bad"); err != nil {
		t.Fatal(err)
	}
	if err := r.enqueue("bad"); err != nil {
		t.Errorf("after the deletion: %v", err)
	}
}

func TestAsynqFact6RetryTimesAreWholeSeconds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { return retried("later", 90*time.Second+123*time.Millisecond) })
	if err := r.enqueue("a", asynq.MaxRetry(5)); err != nil {
		t.Fatal(err)
	}
	r.state("a", asynq.TaskStateRetry)
	at, err := r.rdb.ZScore(t.Context(), "asynq:{q}:retry", "a").Result()
	if err != nil || at != float64(int64(at)) {
		t.Errorf("due at %v, %v", at, err)
	}
}

func TestAsynqFact7TheArchiveForgets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 10_200 {
		r.mr.HSet(fmt.Sprintf("asynq:{q}:t:old%d", i), "msg", "x", "state", "archived")
		if _, err := r.mr.ZAdd("asynq:{q}:archived", float64(time.Now().Unix()-1000), fmt.Sprintf("old%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { return archived("rejected", "no") })
	if err := r.enqueue("a"); err != nil {
		t.Fatal(err)
	}
	r.state("a", asynq.TaskStateArchived)
	if n, err := r.rdb.ZCard(t.Context(), "asynq:{q}:archived").Result(); err != nil || n > 10_000 {
		t.Errorf("%d archived tasks are kept, %v", n, err)
	}
}

func TestAsynqFact13MuxPatternsArePrefixes(t *testing.T) {
	t.Parallel()
	mux := asynq.NewServeMux()
	mux.HandleFunc("recall:tim", func(context.Context, *asynq.Task) error { return nil })
	if _, pattern := mux.Handler(asynq.NewTask("recall:timpush", nil)); pattern != "recall:tim" {
		t.Errorf("recall:timpush is handled by %q", pattern)
	}
}

func TestAsynqFact15AStopThatTimesOutPutsTheTaskAtTheHead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	started, release := make(chan struct{}), make(chan struct{})
	srv := r.serve(r.rdb, func(ctx context.Context, _ *asynq.Task) error {
		close(started)
		<-release
		return nil
	})
	t.Cleanup(func() { close(release) })
	for _, id := range []string{"first", "second", "third"} {
		if err := r.enqueue(id); err != nil {
			t.Fatal(err)
		}
	}
	<-started
	srv.Shutdown()
	if ids, _ := r.mr.List("asynq:{q}:pending"); !slices.Equal(ids, []string{"third", "second", "first"}) {
		t.Errorf("pending %v, want first to be taken next", ids)
	}
}

func TestAsynqFact21AnIdIsTakenInItsQueueOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.enqueue("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Enqueue(asynq.NewTask("recall:x", nil), asynq.Queue("q:bulk"), asynq.TaskID("a")); err != nil {
		t.Errorf("the same id in another queue: %v", err)
	}
}

func TestAsynqFact22ARetryComesBackBehindTheBacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.enqueue("waiting"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.mr.ZAdd("asynq:{q}:retry", float64(time.Now().Unix()), "due"); err != nil {
		t.Fatal(err)
	}
	r.mr.HSet("asynq:{q}:t:due", "msg", "x", "state", "retry")
	_ = r.mr.Set("asynq:{q}:paused", "1")
	r.serve(r.rdb, func(context.Context, *asynq.Task) error { return nil })
	deadline := time.Now().Add(10 * time.Second)
	for {
		ids, _ := r.mr.List("asynq:{q}:pending")
		if slices.Equal(ids, []string{"due", "waiting"}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pending %v, want the retry behind what waits", ids)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// recorder is a Redis client that notes the keys of asynq's scripts.
type recorder struct {
	redis.UniversalClient
	mu   sync.Mutex
	keys []string
}

func (r *recorder) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	r.mu.Lock()
	r.keys = append(r.keys, fmt.Sprint(keys, len(args)))
	r.mu.Unlock()
	return r.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

// The dequeuer knows asynq's scripts by their keys, and takes the first two arguments of a dequeue for its own.
func TestAsynqsScriptsAreKnownByTheirKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rec := &recorder{UniversalClient: r.rdb}
	r.serve(rec, func(context.Context, *asynq.Task) error { return nil })
	const p = "asynq:{q}:"
	want := []string{
		fmt.Sprint([]string{p + "pending", p + "paused", p + "active", p + "lease"}, 2), // dequeue
		fmt.Sprint([]string{p + "retry", p + "pending"}, 4),                             // forward
		fmt.Sprint([]string{p + "scheduled", p + "pending"}, 4),
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, keys := range want {
		for {
			rec.mu.Lock()
			seen := slices.Contains(rec.keys, keys)
			rec.mu.Unlock()
			if seen {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("asynq runs no script with %s", keys)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func TestAFinalVerdictIsArchivedWithOurWordsOnly(t *testing.T) {
	t.Parallel()
	err := inAsynqsWords(retry.Decision{Action: retry.Finish, Outcome: retry.Rejected, Reason: "invalid (90053): no text"})
	if !errors.Is(err, asynq.SkipRetry) || err.Error() != "rejected: invalid (90053): no text" {
		t.Errorf("got %q", err)
	}
}
