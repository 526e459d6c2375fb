package inbox_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// Two workers read, one is killed while it has entries in its hands: nothing is lost and nothing comes twice.
func TestAKilledWorker(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendfsync", "no")
	rdb := s.Client(t)
	publish(t, rdb)
	const entries = 20_000
	addMany(t, rdb, 0, entries, "batch", "b")

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	doomed := exec.Command(exe)
	doomed.Env = append(os.Environ(), workerAddr+"="+s.Addr)
	doomed.Stderr = os.Stderr
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill := func() {
		once.Do(func() {
			_ = doomed.Process.Kill()
			_ = doomed.Wait()
		})
	}
	t.Cleanup(kill)
	// The kill is to find it with entries in its hands, which it has most of the time.
	left := int64(0)
	eventually(t, "the doomed worker has begun", func() bool { return inStream(t, rdb) < entries*3/4 })
	kill()
	for _, c := range rdb.XInfoConsumers(t.Context(), inbox.Key, inbox.Group).Val() {
		left += c.Pending
	}
	if inStream(t, rdb) == 0 {
		t.Fatal("it was too fast to be killed")
	}
	_, log := run(t, rdb, fastTakeover)
	drained(t, rdb)
	wantQueued(t, rdb, bulk, entries)
	wantSums(t, rdb, "b", map[string]int64{"total": entries, "open": entries})
	if took := log.count("takes over") > 0; took != (left > 0) {
		t.Errorf("it left %d entries; taken over: %v", left, took)
	}
}

// Workers that take entries out of one another's hands all the time do everything twice, and it counts once.
func TestImpatientWorkers(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendfsync", "no").Client(t)
	publish(t, rdb)
	const entries = 6_000
	addMany(t, rdb, 0, entries, "batch", "b")
	for n := range 3 {
		impatient := func(in *inbox.Inbox) { in.TakeOver(time.Millisecond, time.Millisecond) }
		changes := []func(*inbox.Inbox){impatient, impatient, impatient}
		run(t, rdb, changes[:n+1]...)
	}
	drained(t, rdb)
	wantQueued(t, rdb, bulk, entries)
	wantSums(t, rdb, "b", map[string]int64{"total": entries, "open": entries})
}

// Redis dies in the middle and comes back with what it had.
func TestRedisIsStartedAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := s.Client(t)
	publish(t, rdb)
	const entries = 5_000
	addMany(t, rdb, 0, entries, "batch", "b")
	_, log := run(t, rdb)
	eventually(t, "the inbox has begun", func() bool { return inStream(t, rdb) < entries*3/4 })
	s.Kill()
	eventually(t, "it says that Redis is away", func() bool { return log.count("entries of the inbox wait") > 0 })
	s.Restart()
	back := time.Now()
	drained(t, rdb)
	if d := time.Since(back); d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
	wantQueued(t, rdb, bulk, entries)
	wantSums(t, rdb, "b", map[string]int64{"total": entries, "open": entries})
	eventually(t, "it says that it goes on", func() bool { return log.count("the inbox goes on") > 0 })
	if log.count("\n") != 2 {
		t.Errorf("more than one line for each change:\n%s", log)
	}
}

// A Redis that has lost everything, the group too, is no reason to refuse entries that come before the lanes are back.
func TestRedisHasLostEverything(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		_, log := run(t, rdb)
		add(t, rdb, "row", row("1"), "batch", "b")
		drained(t, rdb)
		if err := rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has noticed", func() bool { return log.count("entries of the inbox wait") == 1 })
		add(t, rdb, "row", row("2"), "batch", "b")
		eventually(t, "the group is there again", func() bool {
			return rdb.XInfoGroups(t.Context(), inbox.Key).Err() == nil && len(rdb.XInfoGroups(t.Context(), inbox.Key).Val()) == 1
		})
		publish(t, rdb)
		drained(t, rdb)
		wantQueued(t, rdb, bulk, 1)
		wantSums(t, rdb, "b", map[string]int64{"total": 1, "open": 1})
		if got := outcomes(t, rdb); len(got) != 0 {
			t.Errorf("%v", got)
		}
	})
}

// While Redis takes no tasks nothing is acknowledged, and not the whole stream is read.
func TestRedisIsFull(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendfsync", "no").Client(t)
	publish(t, rdb)
	_, log := run(t, rdb)
	add(t, rdb, "row", row("first"), "batch", "b")
	drained(t, rdb)
	const entries = 3_000
	_, err := rdb.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for n := range entries {
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: inbox.Key, Values: []any{"row", row(fmt.Sprint(n)), "batch", []string{"", "b"}[n%2]}})
		}
		pipe.ConfigSet(t.Context(), "maxmemory", "1mb")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it says that entries wait", func() bool { return log.count("entries of the inbox wait") == 1 })
	eventually(t, "it tries again", func() bool {
		list, err := rdb.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: inbox.Key, Group: inbox.Group, Start: "-", End: "+", Count: 1}).Result()
		return err == nil && len(list) == 1 && list[0].RetryCount > 3
	})
	if p := rdb.XPending(t.Context(), inbox.Key, inbox.Group).Val(); p.Count >= entries/2 {
		t.Errorf("%d entries are in its hands", p.Count)
	}
	if n := inStream(t, rdb); n != entries {
		t.Errorf("%d of %d entries are there", n, entries)
	}
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	drained(t, rdb)
	wantQueued(t, rdb, bulk, entries+1)
	wantSums(t, rdb, "b", map[string]int64{"total": entries/2 + 1, "open": entries/2 + 1})
	eventually(t, "it says that it goes on", func() bool { return log.count("the inbox goes on") == 1 })
	if log.count("\n") != 2 {
		t.Errorf("more than one line for each change:\n%s", log)
	}
}

// A task that stands in the way of one entry, in a form that is not asynq's, keeps no other waiting.
func TestOneEntryThatDoesNotWork(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendfsync", "no").Client(t)
	publish(t, rdb)
	r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: "odd"}
	key := tasks.TaskKey("jiguang:news:bulk", r.ID())
	if err := rdb.Set(t.Context(), key, "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	stop, _ := run(t, rdb)
	add(t, rdb, "row", row("odd"))
	const entries = 1_500
	addMany(t, rdb, 0, entries)
	eventually(t, "all others are taken", func() bool { return rdb.LLen(t.Context(), bulk).Val() == entries })
	eventually(t, "only the odd one is left", func() bool { return inStream(t, rdb) == 1 })
	stop()
	if p := rdb.XPending(t.Context(), inbox.Key, inbox.Group).Val(); p.Count != 1 {
		t.Errorf("after the stop %d entries are in somebody's hands", p.Count)
	}
	_, log := run(t, rdb, fastTakeover)
	eventually(t, "the next worker has it", func() bool { return log.count("entries of the inbox wait") == 1 })
	if err := rdb.Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	drained(t, rdb)
	wantQueued(t, rdb, bulk, entries+1)
	eventually(t, "it says that it goes on", func() bool { return log.count("the inbox goes on") == 1 })
}

// An entry that is in its queue and could not be counted in its batch is not done.
func TestABatchThatDoesNotCount(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		bytes := tasks.BatchKey("b") + ":s"
		if err := rdb.HSet(t.Context(), bytes, "no", "string").Err(); err != nil {
			t.Fatal(err)
		}
		_, log := run(t, rdb)
		add(t, rdb, "row", row("1"), "batch", "b")
		add(t, rdb, "row", row("2"), "batch", "a")
		add(t, rdb, "row", row("3"))
		eventually(t, "the others are done", func() bool { return inStream(t, rdb) == 1 })
		eventually(t, "it says so", func() bool { return log.count("entries of the inbox wait") == 1 })
		if err := rdb.Del(t.Context(), bytes).Err(); err != nil {
			t.Fatal(err)
		}
		drained(t, rdb)
		wantQueued(t, rdb, bulk, 3)
		wantSums(t, rdb, "b", map[string]int64{"total": 1, "open": 1})
		wantSums(t, rdb, "a", map[string]int64{"total": 1, "open": 1})
	})
}

// A stop ends also while Redis is frozen, whether entries are waited for or worked on.
func TestStopWhileRedisIsFrozen(t *testing.T) {
	t.Parallel()
	for _, entries := range []int{0, 50_000} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--appendfsync", "no")
			publish(t, s.Client(t))
			rdb, err := redisconn.New(redisconn.Options{URL: s.URL})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = rdb.Close() })
			addMany(t, rdb, 0, entries, "batch", "b")
			stop, _ := run(t, rdb)
			eventually(t, "the inbox has begun", func() bool {
				return len(rdb.XInfoConsumers(t.Context(), inbox.Key, inbox.Group).Val()) == 1
			})
			s.Freeze()
			began := time.Now()
			stop()
			if d := time.Since(began); d > 12*time.Second {
				t.Errorf("the stop took %s", d)
			}
		})
	}
}

// On a Cluster the stream, the batches and the queues live on different nodes; older protocols answer in other forms.
func TestFormsOfRedis(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]func(t *testing.T) redis.UniversalClient{
		"cluster": func(t *testing.T) redis.UniversalClient {
			c, err := redisconn.New(redisconn.Options{Cluster: []string{redistest.StartCluster(t, "--appendfsync", "no")[0].Addr}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"RESP2": func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: redistest.Start(t, "--appendfsync", "no").Addr, Protocol: 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := client(t)
			t.Cleanup(func() { _ = rdb.Close() })
			publish(t, rdb)
			if err := rdb.XGroupCreateMkStream(t.Context(), inbox.Key, inbox.Group, "0").Err(); err != nil {
				t.Fatal(err)
			}
			add(t, rdb, "row", row("left-alone"), "batch", "a")
			add(t, rdb, "row", row("deleted"))
			left, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{
				Group: inbox.Group, Consumer: "dead", Streams: []string{inbox.Key, ">"}, Block: -1,
			}).Result()
			if err != nil {
				t.Fatal(err)
			}
			if err := rdb.XDel(t.Context(), inbox.Key, left[0].Messages[1].ID).Err(); err != nil {
				t.Fatal(err)
			}
			for n := range 20 {
				add(t, rdb, "row", row(fmt.Sprint(n)), "batch", fmt.Sprint("b", n%4))
			}
			add(t, rdb, "row", "no JSON")
			run(t, rdb, fastTakeover)
			drained(t, rdb)
			wantQueued(t, rdb, bulk, 21)
			for n := range 4 {
				wantSums(t, rdb, fmt.Sprint("b", n), map[string]int64{"total": 5, "open": 5})
			}
			wantSums(t, rdb, "a", map[string]int64{"total": 1, "open": 1})
			if got := outcomes(t, rdb); len(got) != 1 {
				t.Errorf("%v", got)
			}
		})
	}
}

// The ACL of a producer, as the package comment has it, is enough to add entries, and for nothing else.
func TestAProducersACL(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendfsync", "no")
	rdb := s.Client(t)
	publish(t, rdb)
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "push", "on", ">a-password-of-push", "~"+inbox.Key, "-@all", "+xadd").Err(); err != nil {
		t.Fatal(err)
	}
	run(t, rdb)
	push := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "push", Password: "a-password-of-push", DisableIdentity: true})
	defer push.Close()
	add(t, push, "row", row("1"), "priority", "urgent")
	drained(t, rdb)
	wantQueued(t, rdb, urgent, 1)
	host, _, _ := net.SplitHostPort(s.Addr)
	for _, c := range [][]any{
		{"XADD", "recallq:outcomes", "*", "row", "x"}, {"XRANGE", inbox.Key, "-", "+"}, {"XLEN", inbox.Key}, {"DEL", inbox.Key},
		{"XTRIM", inbox.Key, "MAXLEN", "0"}, {"XGROUP", "DESTROY", inbox.Key, inbox.Group}, {"LPUSH", urgent, "x"}, {"KEYS", "*"},
		{"HGETALL", tasks.LanesKey}, {"CONFIG", "GET", "*"}, {"REPLICAOF", host, "1"},
	} {
		if err := push.Do(t.Context(), c...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// BenchmarkInbox measures how many entries become tasks in a second.
func BenchmarkInbox(b *testing.B) {
	for _, c := range []struct {
		name string
		more []any
	}{{"bulk", nil}, {"urgent", []any{"priority", "urgent"}}, {"batch", []any{"batch", "b"}}} {
		b.Run(c.name, func(b *testing.B) {
			s := redistest.Start(b, "--appendonly", "no")
			rdb, err := redisconn.New(redisconn.Options{URL: s.URL})
			if err != nil {
				b.Fatal(err)
			}
			defer rdb.Close()
			publish(b, rdb)
			addMany(b, rdb, 0, b.N, c.more...)
			b.ReportAllocs()
			b.ResetTimer()
			run(b, rdb)
			drained(b, rdb)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
