package metrics_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/tasks"
)

func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func publish(t *testing.T, rdb *redis.Client, provider, app string, seen time.Time) {
	t.Helper()
	l := tasks.Lane{Provider: provider, App: app, Window: 24 * time.Hour, LastSeen: seen}
	if err := tasks.PublishLane(t.Context(), rdb, l); err != nil {
		t.Fatal(err)
	}
}

func enqueue(t *testing.T, rdb *redis.Client, queue string, opts ...asynq.Option) {
	t.Helper()
	client := asynq.NewClientFromRedisClient(rdb)
	opts = append(opts, asynq.Queue(queue), asynq.Retention(time.Hour), asynq.MaxRetry(9))
	if _, err := client.Enqueue(asynq.NewTask("recall:jiguang", []byte("{}")), opts...); err != nil {
		t.Fatal(err)
	}
}

// TestTheQueuesAreCountedWhereAsynqKeepsThem holds the keys that we read against asynq itself, one task in each state.
func TestTheQueuesAreCountedWhereAsynqKeepsThem(t *testing.T) {
	t.Parallel()
	rdb := startRedis(t)
	const queue = "jiguang:news"
	m := metrics.New()
	m.Lane("jiguang", "news")
	m.Watch(rdb)
	publish(t, rdb, "jiguang", "news", time.Now())

	for _, id := range []string{"well", "again", "never", "hangs"} {
		enqueue(t, rdb, queue, asynq.TaskID(id))
	}
	began, leave := make(chan string), make(chan struct{})
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: 4, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		switch id {
		case "again":
			return errors.New("later")
		case "never":
			return asynq.SkipRetry
		case "hangs":
			began <- id
			<-leave
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	defer close(leave)
	<-began
	server.Stop()
	enqueue(t, rdb, queue)
	enqueue(t, rdb, queue)
	enqueue(t, rdb, queue, asynq.ProcessIn(time.Hour))

	want := map[string]float64{
		`recallq_queue_tasks{queue="jiguang:news",state="pending"}`:        2,
		`recallq_queue_tasks{queue="jiguang:news",state="active"}`:         1,
		`recallq_queue_tasks{queue="jiguang:news",state="scheduled"}`:      1,
		`recallq_queue_tasks{queue="jiguang:news",state="retry"}`:          1,
		`recallq_queue_tasks{queue="jiguang:news",state="archived"}`:       1,
		`recallq_queue_tasks{queue="jiguang:news",state="completed"}`:      1,
		`recallq_queue_tasks{queue="jiguang:news:bulk",state="pending"}`:   0,
		`recallq_queue_tasks{queue="jiguang:news:bulk",state="completed"}`: 0,
		`recallq_unserved_tasks`: 0,
	}
	eventually(t, func() bool { // the three short ones end on their own
		got := scrape(t, m)
		return got[`recallq_queue_tasks{queue="jiguang:news",state="archived"}`] == 1 &&
			got[`recallq_queue_tasks{queue="jiguang:news",state="retry"}`] == 1 &&
			got[`recallq_queue_tasks{queue="jiguang:news",state="completed"}`] == 1
	})
	expect(t, scrape(t, m), want)
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTasksThatNoWorkerTakesAreUnserved(t *testing.T) {
	t.Parallel()
	rdb := startRedis(t)
	m := metrics.New()
	m.Watch(rdb)
	publish(t, rdb, "jiguang", "served", time.Now())
	publish(t, rdb, "jiguang", "left", time.Now().Add(-2*time.Minute))
	enqueue(t, rdb, "jiguang:served")
	enqueue(t, rdb, "jiguang:left:bulk")
	enqueue(t, rdb, "jiguang:left:bulk", asynq.ProcessIn(time.Hour))
	enqueue(t, rdb, "timchat:never-published")
	enqueue(t, rdb, "somebody-elses") // shares the Redis
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	enqueue(t, rdb, "jiguang:left", asynq.TaskID("ended"))
	if err := inspector.ArchiveTask("jiguang:left", "ended"); err != nil {
		t.Fatal(err)
	}

	got := scrape(t, m)
	expect(t, got, map[string]float64{
		`recallq_unserved_tasks`: 3,
		`recallq_queue_tasks{queue="timchat:never-published",state="pending"}`: 1,
		`recallq_queue_tasks{queue="jiguang:left",state="archived"}`:           1,
	})
	for series := range got {
		if strings.Contains(series, "somebody-elses") {
			t.Errorf("%s is not ours", series)
		}
	}
}

// A newer worker's entry cannot be read here. The lane counts as served, and the others are counted as ever.
func TestALaneThatCannotBeReadKeepsNobodyFromTheOthers(t *testing.T) {
	t.Parallel()
	rdb := startRedis(t)
	m := metrics.New()
	m.Watch(rdb)
	enqueue(t, rdb, "jiguang:news")
	enqueue(t, rdb, "jiguang:left")
	publish(t, rdb, "jiguang", "left", time.Now().Add(-2*time.Minute))
	if err := rdb.HSet(t.Context(), tasks.LanesKey, "jiguang:news", "not json").Err(); err != nil {
		t.Fatal(err)
	}
	expect(t, scrape(t, m), map[string]float64{
		`recallq_queue_tasks{queue="jiguang:news",state="pending"}`: 1,
		`recallq_unserved_tasks`:                                    1,
	})
}

func TestWithoutRedisTheOtherMetricsStillCome(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	m := metrics.New()
	m.Lane("jiguang", "news")
	m.Watch(rdb)
	m.Outcome("jiguang", "news", tasks.Recalled)
	scrape(t, m)
	server.Close()
	got := scrape(t, m)
	expect(t, got, map[string]float64{`recallq_outcomes_total{app="news",outcome="recalled",provider="jiguang"}`: 1})
	for series := range got {
		if strings.HasPrefix(series, "recallq_queue_tasks") {
			t.Errorf("%s is what it was before Redis went", series)
		}
	}
}

// TestAFrozenRedisHoldsNoScrape has a Redis that takes connections and never answers, and a client that is more patient
// than a scrape may be.
func TestAFrozenRedisHoldsNoScrape(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{
			MaxRetries: -1, ReadTimeout: time.Minute, DialerRetries: 1,
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() { // reads all and says nothing, until the client hangs up
					defer func() { _ = server.Close() }()
					for b := make([]byte, 512); ; {
						if _, err := server.Read(b); err != nil {
							return
						}
					}
				}()
				return client, nil
			},
		})
		m := metrics.New()
		m.Lane("jiguang", "news")
		m.Watch(rdb)
		began := time.Now()
		got := scrape(t, m)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the scrape took %s", took)
		}
		expect(t, got, map[string]float64{`recallq_lane_backlog_seconds{app="news",provider="jiguang"}`: 0})
		_ = rdb.Close()
	})
}
