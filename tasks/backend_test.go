package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// mini returns an embedded Redis.
func mini(t testing.TB) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	m := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	return m, c
}

// onBoth runs a test on an embedded Redis and on a real one.
func onBoth(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		_, rdb := mini(t)
		test(t, rdb)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, redistest.Start(t, "--appendfsync", "no").Client(t))
	})
}

func publish(t testing.TB, rdb redis.Cmdable, list ...tasks.Lane) {
	t.Helper()
	for _, l := range list {
		if err := tasks.PublishLane(t.Context(), rdb, l); err != nil {
			t.Fatal(err)
		}
	}
}

// newProducer returns a producer with the clock of these tests and the lanes of resolve_test.go published.
func newProducer(t testing.TB, rdb redis.UniversalClient) *tasks.Producer {
	t.Helper()
	publish(t, rdb, lanes...)
	return tasks.NewProducer(rdb, tasks.WithClock(func() time.Time { return now }))
}

func enqueue(t testing.TB, p *tasks.Producer, r tasks.Recall, opts ...tasks.EnqueueOption) tasks.Result {
	t.Helper()
	res, err := p.Enqueue(t.Context(), r, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// worker is an asynq server, so that tasks come into every state the way they do in life.
type worker struct {
	handle func(ctx context.Context, t *asynq.Task) error
}

// errLater makes a task wait for its retry; asynq.SkipRetry archives it.
var errLater = errors.New("later")

// start runs the worker on queues until stop is called or the test ends.
func (w worker) start(t testing.TB, rdb redis.UniversalClient, queues ...string) (stop func()) {
	t.Helper()
	weights := make(map[string]int)
	for _, q := range queues {
		weights[q] = 1
	}
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Queues: weights, Concurrency: 4, LogLevel: asynq.FatalLevel, TaskCheckInterval: 5 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	if err := server.Start(asynq.HandlerFunc(w.handle)); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			server.Shutdown()
		}
	}
	t.Cleanup(stop)
	return stop
}

// end has a worker take the task from its queue and leave it with an outcome of ours, or without any.
func end(t testing.TB, rdb redis.UniversalClient, queue, id, outcome string, result error) {
	t.Helper()
	stop := worker{func(_ context.Context, task *asynq.Task) error {
		if outcome == "" {
			return result
		}
		text, err := json.Marshal(tasks.Outcome{Outcome: outcome, FinishedAt: now})
		if err != nil {
			return err
		}
		if _, err := task.ResultWriter().Write(text); err != nil {
			return err
		}
		return result
	}}.start(t, rdb, queue)
	want := asynq.TaskStateCompleted
	switch {
	case errors.Is(result, asynq.SkipRetry):
		want = asynq.TaskStateArchived
	case result != nil:
		want = asynq.TaskStateRetry
	}
	waitFor(t, rdb, queue, id, want)
	stop()
}

// hold has a worker take the task and keep it until the test ends.
func hold(t testing.TB, rdb redis.UniversalClient, queue, id string) {
	t.Helper()
	release := make(chan struct{})
	worker{func(context.Context, *asynq.Task) error { <-release; return nil }}.start(t, rdb, queue)
	t.Cleanup(func() { close(release) }) // before the server's stop, which waits for it
	waitFor(t, rdb, queue, id, asynq.TaskStateActive)
}

func waitFor(t testing.TB, rdb redis.UniversalClient, queue, id string, want asynq.TaskState) {
	t.Helper()
	eventually(t, func() bool { return stateOf(t, rdb, queue, id) == want })
}

func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// stateOf asks asynq, not our own reading of its layout; 0 means that there is no such task.
func stateOf(t testing.TB, rdb redis.UniversalClient, queue, id string) asynq.TaskState {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(queue, id)
	if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

// inQueue reads the recall of a task through asynq.
func inQueue(t testing.TB, rdb redis.UniversalClient, queue, id string) tasks.Recall {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(queue, id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tasks.Decode(info.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
