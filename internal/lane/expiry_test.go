package lane

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// crowd is a bulk queue that is filled as a producer fills it, only faster.
type crowd struct {
	t    testing.TB
	rdb  redis.UniversalClient
	lane *Lane
	n    int
}

func newCrowd(t testing.TB, rdb redis.UniversalClient, limits ...providers.Limit) *crowd {
	t.Helper()
	l := New(rdb, Options{Provider: "timpush", App: "chat", Fingerprint: "f", Limits: limits, Timeout: time.Second, Instance: "p"})
	return &crowd{t: t, rdb: rdb, lane: l}
}

const crowdQueue = "timpush:chat:bulk"

// add has n recalls wait behind all others; by tells when the window of each closes.
func (c *crowd) add(n int, by func(i int) time.Time) {
	c.t.Helper()
	for done := 0; done < n; {
		pipe := c.rdb.Pipeline()
		for ; done < n; done++ {
			at := by(done)
			c.n++
			id := "id-" + strconv.Itoa(c.n)
			// The rest of a payload makes the message as long as those of Tencent Chat are.
			msg := fmt.Sprintf(`{"v":1,"provider":"timpush","app":"chat","recall_by":"%s","ref":"%0600d"}`, at.UTC().Format(tasks.TimeLayout), c.n)
			pipe.ZAdd(c.t.Context(), tasks.DueKey(crowdQueue), redis.Z{Score: float64(dueAt(at)), Member: strconv.FormatInt(dueAt(at), 10)})
			pipe.HSet(c.t.Context(), "asynq:{"+crowdQueue+"}:t:"+id, "msg", msg, "state", "pending")
			pipe.LPush(c.t.Context(), "asynq:{"+crowdQueue+"}:pending", id)
			if pipe.Len() >= 3000 {
				done++
				break
			}
		}
		if _, err := pipe.Exec(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// end ends the n recalls that are taken next. What producers have told of them stays.
func (c *crowd) end(n int) {
	c.t.Helper()
	for range n {
		if err := c.rdb.RPop(c.t.Context(), "asynq:{"+crowdQueue+"}:pending").Err(); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *crowd) backlog() Backlog {
	c.t.Helper()
	b, err := c.lane.Backlog(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *crowd) status(rdb redis.Cmdable) Status {
	c.t.Helper()
	s, err := ReadStatus(c.t.Context(), rdb, tasks.Lane{Provider: "timpush", App: "chat"}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func same(got, want time.Time) bool {
	d := got.Sub(want)
	return d >= -tasks.DueStep && d <= tasks.DueStep
}

// A file that is sorted by time: what has ended was told first.
func TestTheNextExpiryAmongManyIsThatOfWhatWaits(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		c := newCrowd(t, rdb)
		base := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		sorted := func(i int) time.Time { return base.Add(time.Duration(i) * time.Minute) }
		c.add(lookAlways+3*lookStep, sorted)
		if got := c.backlog().NextExpiry; !same(got, base) {
			t.Errorf("the next window closes at %s, want %s", got, base)
		}
		c.end(lookStep)
		if got := c.status(rdb).NextExpiry; !same(got, base) {
			t.Errorf("a worker's finding of a moment ago was not used, got %s, want %s", got, base)
		}
		if err := rdb.HDel(t.Context(), c.lane.keys[0], fieldExpiry).Err(); err != nil {
			t.Fatal(err)
		}
		want := sorted(lookStep)
		if got := c.status(rdb).NextExpiry; !same(got, want) {
			t.Errorf("status: the next window closes at %s, want %s", got, want)
		}
		if got := c.backlog().NextExpiry; !same(got, want) {
			t.Errorf("backlog: the next window closes at %s, want %s", got, want)
		}
		if told, err := rdb.ZRange(t.Context(), tasks.DueKey(crowdQueue), 0, 0).Result(); err != nil || told[0] != strconv.FormatInt(dueAt(base), 10) {
			t.Errorf("what was told to the sweep has changed: %v, %v", told, err)
		}
	})
}

func TestTheNextExpiryIsFoundWhereverItsRecallWaits(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	first, others := time.Now().Add(time.Hour).Truncate(time.Millisecond), time.Now().Add(5*time.Hour)
	later := func(int) time.Time { return others }
	for name, fill := range map[string]func(c *crowd){
		"taken next": func(c *crowd) { c.add(1, func(int) time.Time { return first }); c.add(2*lookStep, later) },
		"taken last": func(c *crowd) { c.add(2*lookStep, later); c.add(1, func(int) time.Time { return first }) },
		"between": func(c *crowd) {
			c.add(lookStep+10, later)
			c.add(1, func(int) time.Time { return first })
			c.add(lookStep+10, later)
		},
		"to be tried again": func(c *crowd) {
			c.add(1, func(int) time.Time { return first })
			c.rdb.RPop(t.Context(), "asynq:{"+crowdQueue+"}:pending")
			c.rdb.ZAdd(t.Context(), "asynq:{"+crowdQueue+"}:retry", redis.Z{Score: 1, Member: "id-1"})
			c.add(2*lookStep, later)
		},
		"ended ones were told before": func(c *crowd) {
			c.add(1, func(int) time.Time { return first.Add(-time.Minute) })
			c.end(1)
			c.add(1, func(int) time.Time { return first })
			c.add(2*lookStep, later)
		},
	} {
		if err := rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		c := newCrowd(t, rdb)
		fill(c)
		if got := c.status(rdb).NextExpiry; !got.Equal(first) {
			t.Errorf("%s: status: %s, want %s", name, got, first)
		}
		if got := c.backlog().NextExpiry; !got.Equal(first) {
			t.Errorf("%s: backlog: %s, want %s", name, got, first)
		}
	}
}

// A look through many is not repeated every ten seconds, but what comes in with an earlier window is seen at once.
func TestAFindingIsKeptUntilAnEarlierTimeIsTold(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	c := newCrowd(t, rdb)
	base := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	c.add(1, func(int) time.Time { return base.Add(-30 * time.Minute) })
	c.end(1)
	c.add(1, func(int) time.Time { return base })
	c.add(lookAlways+1, func(int) time.Time { return base.Add(time.Hour) })
	looks := func() string { return rdb.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_evalsha") }
	if got := c.backlog().NextExpiry; !got.Equal(base) {
		t.Fatalf("the next window closes at %s, want %s", got, base)
	}
	before := looks()
	if got := c.backlog().NextExpiry; !got.Equal(base) || looks() != before {
		t.Errorf("%s, want %s; looked again: %s, before %s", got, base, looks(), before)
	}
	earlier := base.Add(-20 * time.Minute)
	c.add(1, func(int) time.Time { return earlier })
	if got := c.backlog().NextExpiry; !got.Equal(earlier) {
		t.Errorf("the next window closes at %s, want %s", got, earlier)
	}
}

// A finding that was taken while a producer told more times says so.
func TestWhatIsToldDuringALookHasItRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	w.skew(l)
	look := lookout{rdb: w.rdb, now: w.now}
	for i, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
		look.queues[i].name = tasks.Queue("timpush", "chat", p)
	}
	if err := w.rdb.ZAdd(t.Context(), tasks.DueKey("timpush:chat"), redis.Z{Score: float64(w.now.Add(time.Hour).Unix()), Member: "1"}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.found(t.Context(), look, w.now.Add(2*time.Hour), 0); err != nil { // none was told when it began
		t.Fatal(err)
	}
	f := readFinding(w.mr.HGet(l.keys[0], fieldExpiry))
	if old, err := look.outdated(t.Context(), f); err != nil || !old {
		t.Errorf("%+v is good, %v", f, err)
	}
}

// Who may run no script gets an answer: what the worker has found, else the earliest time told.
func TestTheNextExpiryForOneWhoMayOnlyLook(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := s.Client(t)
	// The user of docs/operations.md, as it was before there was a look.
	err := rdb.Do(t.Context(), "ACL", "SETUSER", "looker", "reset", "on", ">pw", "~asynq:*", "~recallq:lane*", "~recallq:due:*", "-@all",
		"+ping", "+hgetall", "+get", "+llen", "+zcard", "+zrange", "+zrevrange").Err()
	if err != nil {
		t.Fatal(err)
	}
	looker := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "looker", Password: "pw", DisableIdentity: true})
	t.Cleanup(func() { _ = looker.Close() })
	c := newCrowd(t, rdb)
	ended, waits := time.Now().Add(time.Hour), time.Now().Add(5*time.Hour).Truncate(time.Millisecond)
	c.add(1, func(int) time.Time { return ended })
	c.end(1)
	c.add(3, func(int) time.Time { return waits })
	if got := c.status(looker).NextExpiry; !same(got, ended) {
		t.Errorf("without a worker: %s, want what was told, %s", got, ended)
	}
	c.backlog()
	if got := c.status(looker).NextExpiry; !got.Equal(waits) {
		t.Errorf("with a worker: %s, want %s", got, waits)
	}
}

func TestBeyondAMillionTheEarliestTimeToldHasToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.process("a")
	at := w.now.Add(time.Hour)
	told := redis.NewZSliceCmd(t.Context())
	told.SetVal([]redis.Z{{Score: float64(at.Unix())}})
	number := func(n int64) *redis.IntCmd {
		c := redis.NewIntCmd(t.Context())
		c.SetVal(n)
		return c
	}
	crowded := queueReads{name: crowdQueue, pending: number(lookMost), retry: number(1), due: told}
	empty := queueReads{name: "timpush:chat", pending: number(0), retry: number(0), due: redis.NewZSliceCmd(t.Context())}
	look := lookout{rdb: w.rdb, queues: [2]queueReads{empty, crowded}, now: w.now, rest: func(context.Context, time.Duration) error {
		t.Error("they were looked through")
		return nil
	}}
	if got, err := l.nextExpiry(t.Context(), look, finding{}); err != nil || !got.Equal(at) {
		t.Errorf("backlog: %s, %v; want %s", got, err, at)
	}
	if got, err := look.glance(t.Context(), finding{}); err != nil || !got.Equal(at) {
		t.Errorf("status: %s, %v; want %s", got, err, at)
	}
}

// What a look costs Redis when the window that closes first is no longer waited for: all recalls are looked through.
//
//	go test ./internal/lane -run LookingThrough -v
func TestLookingThroughManyCostsLittle(t *testing.T) {
	if testing.Short() || os.Getenv("RECALLQ_LONG") != "1" {
		t.Skip("takes most of a minute; RECALLQ_LONG=1 runs it")
	}
	const n = 300_000
	rdb := redistest.Start(t, "--appendonly", "no").Client(t)
	c := newCrowd(t, rdb, providers.Limit{Calls: 100, Per: time.Second})
	base := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	c.add(n, func(i int) time.Time { return base.Add(time.Duration(i) * time.Second / 10) })
	c.end(5000)
	cpu := func() float64 {
		info := rdb.InfoMap(t.Context(), "cpu")
		user, _ := strconv.ParseFloat(info.Item("CPU", "used_cpu_user"), 64)
		sys, _ := strconv.ParseFloat(info.Item("CPU", "used_cpu_sys"), 64)
		return user + sys
	}
	for _, what := range []string{"the first look", "a second one, within a minute"} {
		used, began := cpu(), time.Now()
		b := c.backlog()
		t.Logf("%s at %d waiting: %s, %.2f s of Redis's processor; %s at the limits", what, b.Tasks, time.Since(began).Round(time.Millisecond), cpu()-used, b.Takes)
		if want := base.Add(500 * time.Second); !same(b.NextExpiry, want) {
			t.Errorf("the next window closes at %s, want %s", b.NextExpiry, want)
		}
	}
	slowest := rdb.SlowLogGet(t.Context(), 128).Val()
	for _, entry := range slowest {
		if entry.Duration > 20*time.Millisecond && len(entry.Args) > 0 && entry.Args[0] == "evalsha" {
			t.Errorf("a step kept Redis for %s", entry.Duration)
		}
	}
}
