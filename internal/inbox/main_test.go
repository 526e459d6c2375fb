package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// workerAddr in the environment makes the test program a worker with nothing but an inbox, which a test can kill.
const workerAddr = "RECALLQ_TEST_INBOX"

func TestMain(m *testing.M) {
	if addr := os.Getenv(workerAddr); addr != "" {
		rdb := redis.NewClient(&redis.Options{Addr: addr})
		inbox.New(inbox.Options{Redis: rdb, Instance: "doomed", Log: zerolog.Nop()}).Run(context.Background())
		return
	}
	goleak.VerifyTestMain(m)
}

func newLane(provider, app string) tasks.Lane {
	return tasks.Lane{Provider: provider, App: app, Window: 24 * time.Hour, LastSeen: time.Now()}
}

func publish(t testing.TB, rdb redis.Cmdable) {
	t.Helper()
	for _, l := range []tasks.Lane{newLane("jiguang", "news"), newLane("timchat", "a"), newLane("timchat", "b")} {
		if err := tasks.PublishLane(t.Context(), rdb, l); err != nil {
			t.Fatal(err)
		}
	}
}

// onBoth runs a test on an embedded Redis and on a real one, with lanes published.
func onBoth(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m := miniredis.RunT(t)
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		publish(t, rdb)
		test(t, rdb)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		rdb := redistest.Start(t, "--appendfsync", "no").Client(t)
		publish(t, rdb)
		test(t, rdb)
	})
}

// lines is a log that tests can read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// run runs an inbox until stop is called or the test ends.
func run(t testing.TB, rdb redis.UniversalClient, change ...func(*inbox.Inbox)) (stop func(), log *lines) {
	t.Helper()
	log = &lines{}
	in := inbox.New(inbox.Options{Redis: rdb, Instance: "w-" + t.Name() + strconv.Itoa(len(change)), Log: zerolog.New(log)})
	for _, c := range change {
		c(in)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return stop, log
}

func fastTakeover(in *inbox.Inbox) { in.TakeOver(200*time.Millisecond, 50*time.Millisecond) }

// row is a row of input with a message id.
func row(id string) string {
	return fmt.Sprintf(`{"provider":"jiguang","message_id":%q,"sent_at":%d}`, id, time.Now().Unix())
}

// add adds an entry and returns its id.
func add(t testing.TB, rdb redis.Cmdable, fields ...any) string {
	t.Helper()
	id, err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: inbox.Key, Values: fields}).Result()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func addMany(t testing.TB, rdb redis.Cmdable, from, to int, more ...any) {
	t.Helper()
	for from < to {
		_, err := rdb.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for n := 0; n < 1000 && from < to; n++ {
				pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: inbox.Key, Values: append([]any{"row", row(strconv.Itoa(from))}, more...)})
				from++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to that: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func inStream(t testing.TB, rdb redis.Cmdable) int {
	t.Helper()
	n, err := rdb.XLen(t.Context(), inbox.Key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// drained waits until nothing is in the stream, nor in a consumer's hands.
func drained(t testing.TB, rdb redis.Cmdable) {
	t.Helper()
	eventually(t, "the inbox is empty", func() bool {
		p, err := rdb.XPending(t.Context(), inbox.Key, inbox.Group).Result()
		return err == nil && p.Count == 0 && rdb.XLen(t.Context(), inbox.Key).Val() == 0
	})
}

const (
	urgent = "asynq:{jiguang:news}:pending"
	bulk   = "asynq:{jiguang:news:bulk}:pending"
)

func wantQueued(t testing.TB, rdb redis.Cmdable, key string, want int) {
	t.Helper()
	if n := rdb.LLen(t.Context(), key).Val(); int(n) != want {
		t.Errorf("%s has %d tasks, want %d", key, n, want)
	}
}

// wantSums checks the counters of a batch that are not zero, and what is open.
func wantSums(t testing.TB, rdb redis.UniversalClient, name string, want map[string]int64) {
	t.Helper()
	b, err := ledger.New(rdb).Batch(t.Context(), name)
	if err != nil {
		t.Error(err)
		return
	}
	got := map[string]int64{"total": b.Total, "open": b.Open, "duplicate": b.Duplicate}
	for outcome, n := range b.Outcomes {
		got[outcome] = n
	}
	for key, n := range got {
		if n == 0 {
			delete(got, key)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batch %s: %s", name, diff)
	}
}

// outcomes reads the stream of outcomes.
func outcomes(t testing.TB, rdb redis.Cmdable) []map[string]any {
	t.Helper()
	list, err := rdb.XRange(t.Context(), tasks.OutcomesKey, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, m := range list {
		all = append(all, m.Values)
	}
	return all
}
