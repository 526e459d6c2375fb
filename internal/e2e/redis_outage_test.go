package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// What the contract allows.
const (
	backWithin  = 10 * time.Second  // from Redis's return until work goes on
	leaseWithin = 125 * time.Second // the same for recalls that a server had fetched when Redis went away
	stopWithin  = 15 * time.Second  // a stop while Redis is frozen
	linesWithin = 10                // lines of the log in an outage
	cpuOfOutage = 0.2               // of one processor, while Redis is away
)

// fifty lanes with an account each.
func fifty() (lanes []lane, accounts []simulator.Account) {
	for i := range 50 {
		key := fmt.Sprintf("key%030d", i)
		lanes = append(lanes, lane{"jiguang", fmt.Sprint("app", i), "channel_key: " + key + ", master_secret: 5e987ac6d2e04d95a9d8f0d1"})
		accounts = append(accounts, simulator.Account{Provider: "jiguang", Account: key, Secret: "5e987ac6d2e04d95a9d8f0d1"})
	}
	return lanes, accounts
}

// cpu is the processor time that a process has used.
func (p *program) cpu() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skipf("no processor times here: %v", err)
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return time.Duration(user+system) * tick
}

func (p *program) lines() int { return strings.Count(p.output(), "\n") }

// outage takes Redis away for a time and measures the worker meanwhile: the lines it logs and the processor time it takes. What
// it says at once, before Redis is quite gone, counts.
func (w *running) outage(t *testing.T, lasts time.Duration, away, back func()) {
	t.Helper()
	before, text, cpu, began := w.lines(), len(w.output()), w.cpu(), time.Now()
	away()
	<-time.After(lasts)
	took, lines := w.cpu()-cpu, w.lines()-before
	said := w.output()[text:]
	t.Logf("%d lines and %v of processor time in %v without Redis", lines, took, time.Since(began).Round(time.Millisecond))
	if lines > linesWithin {
		t.Errorf("%d lines of log in an outage of %v, want at most %d:\n%s", lines, lasts, linesWithin, tail(said))
	}
	if !strings.Contains(w.output(), "redis does not answer") { // a worker that started without Redis may have said so before
		t.Error("the log does not say that Redis is away")
	}
	if share := took.Seconds() / time.Since(began).Seconds(); share > cpuOfOutage {
		t.Errorf("the worker used %.0f %% of a processor while Redis was away", 100*share)
	}
	if status := w.get("readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d without Redis", status)
	}
	if status := w.get("healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d without Redis", status)
	}
	back()
}

func (s *formSite) put(r tasks.Recall) {
	s.t.Helper()
	if r.SentAt.IsZero() {
		r.SentAt = base
	}
	if _, err := tasks.NewProducer(s.rdb).Enqueue(s.t.Context(), r, tasks.AllowUnserved()); err != nil {
		s.t.Fatal(err)
	}
}

// A quiet worker of fifty lanes: Redis is away for ten seconds, or frozen, and every lane works again soon after.
func TestFiftyIdleLanesSurviveAnOutage(t *testing.T) {
	long(t)
	t.Parallel()
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			lanes, accounts := fifty()
			s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
				simulator.Options{KnowAll: true, NoLimits: true, Accounts: accounts}, lanes...)
			w := s.ready()
			away, back := r.Kill, r.Restart
			if how == "frozen" {
				away, back = r.Freeze, r.Thaw
			}
			w.outage(t, 10*time.Second, away, back)
			returned := time.Now()
			for i := range 50 {
				u := ums(i)
				u.App = fmt.Sprint("app", i)
				s.put(u)
			}
			s.until(backWithin+time.Until(returned), func() bool { return s.recalled("jiguang") == 50 })
			t.Logf("all lanes worked %v after Redis had come back", time.Since(returned).Round(time.Millisecond))
			s.until(5*time.Second, func() bool { return w.get("readyz") == http.StatusOK })
			w.stops(t, stopWithin)
		})
	}
}

func (w *running) stops(t *testing.T, within time.Duration) {
	t.Helper()
	began := time.Now()
	w.signal(syscall.SIGTERM)
	if code := w.exit(within); code != 0 {
		t.Errorf("the worker left with %d", code)
	}
	t.Logf("stopped within %v", time.Since(began).Round(time.Millisecond))
}

// Redis is killed in the middle of the work and comes back with its file, or is frozen and thaws, before the leases of what was
// active have run out, or after. Nothing is lost, and only what was in flight may be called again.
func TestNothingIsLostInAnOutageUnderLoad(t *testing.T) {
	long(t)
	t.Parallel()
	for name, c := range map[string]struct {
		lasts      time.Duration
		away, back func(*redistest.Server)
	}{
		"killed for 5 s":  {5 * time.Second, (*redistest.Server).Kill, (*redistest.Server).Restart},
		"killed for 40 s": {40 * time.Second, (*redistest.Server).Kill, (*redistest.Server).Restart},
		"frozen for 40 s": {40 * time.Second, (*redistest.Server).Freeze, (*redistest.Server).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outageUnderLoad(t, c.lasts, c.away, c.back)
		})
	}
}

func outageUnderLoad(t *testing.T, lasts time.Duration, away, back func(*redistest.Server)) {
	r := redistest.Start(t)
	s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
		simulator.Options{KnowAll: true, NoLimits: true, Latency: 20 * time.Millisecond},
		lane{"jiguang", "news", "concurrency: 16"}, lane{"timchat", "chat", "concurrency: 16, limits: []"})
	const n = 5000 // a lane
	s.fill(n, ums)
	s.fill(n, chat)
	w := s.ready()
	s.until(60*time.Second, func() bool { return s.recalled("jiguang") > n/5 && s.recalled("timchat") > n/5 })
	var returned time.Time
	var before int
	w.outage(t, lasts, func() { away(r) }, func() {
		before = len(s.sim.Ledger())
		back(r)
		returned = time.Now()
	})
	s.until(backWithin, func() bool { return len(s.sim.Ledger()) > before })
	t.Logf("calls went on %v after Redis had come back", time.Since(returned).Round(time.Millisecond))
	s.awaitOutcomes(2*n, time.Minute+leaseWithin)
	t.Logf("all had ended %v after Redis had come back", time.Since(returned).Round(time.Second))
	for id, e := range s.outcomes {
		if !tasks.Succeeded(fmt.Sprint(e["outcome"])) {
			t.Errorf("%s ended as %v: %v", id, e["outcome"], e["error"])
		}
	}
	again := 0
	for _, calls := range s.callsOf() {
		again += calls - 1
	}
	t.Logf("%d calls were made again", again)
	if most := 2 * (16 + 4); again > most { // both lanes' bulk and urgent workers
		t.Errorf("%d calls were made again, want at most the %d that can have been in flight", again, most)
	}
	w.stops(t, 5*time.Second)
}

// A Redis that keeps nothing comes back empty. What was in it is gone, and what comes next is served.
func TestAWorkerGoesOnWithARedisThatLostEverything(t *testing.T) {
	long(t)
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
		simulator.Options{KnowAll: true, NoLimits: true}, lane{"jiguang", "news", ""}, lane{"timchat", "chat", ""})
	w := s.ready()
	s.tool(0, "add", "--provider", "jiguang", ums(0).MessageID)
	s.until(5*time.Second, func() bool { return s.recalled("jiguang") == 1 })
	if n := w.says("keeps nothing on disk"); n != 1 {
		t.Errorf("said %d times that Redis keeps nothing on disk", n)
	}
	r.Kill()
	r.Restart()
	returned := time.Now()
	// Producers need the published lanes; a push system does not wait for them.
	inbox := &redis.XAddArgs{Stream: "recallq:inbox", Values: []string{"row", `{"provider":"jiguang","message_id":"` + ums(1).MessageID + `"}`}}
	if err := s.rdb.XAdd(t.Context(), inbox).Err(); err != nil {
		t.Fatal(err)
	}
	s.until(backWithin, func() bool {
		lanes, _ := tasks.Lanes(t.Context(), s.rdb)
		return len(lanes) == 2
	})
	s.tool(0, "add", "--provider", "jiguang", ums(2).MessageID)
	s.until(time.Until(returned.Add(backWithin+5*time.Second)), func() bool { return s.recalled("jiguang") == 3 })
	t.Logf("both were called %v after Redis had come back", time.Since(returned).Round(time.Millisecond))
	w.stops(t, 5*time.Second)
}

func TestAWorkerThatRequiresDurabilityRefusesARedisWithout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args    []string
		refused string
	}{
		"durable":      {[]string{"--appendfsync", "everysec"}, ""},
		"nothing kept": {[]string{"--appendonly", "no"}, "redis keeps nothing on disk"},
		"evicts":       {[]string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"}, "redis throws keys away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t, c.args...)
			s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q, require_durable: true}", r.URL), admin: redisconn.Options{URL: r.URL}},
				simulator.Options{}, lane{"jiguang", "news", ""})
			if c.refused == "" {
				s.ready().stops(t, 5*time.Second)
				return
			}
			w := s.begin()
			if code := w.exit(10 * time.Second); code != 1 {
				t.Errorf("left with %d, want 1", code)
			}
			if w.says("redis.require_durable: "+c.refused) != 1 {
				t.Errorf("said:\n%s", tail(w.output()))
			}
		})
	}
}

// fill enqueues n recalls as bulk.
func (s *formSite) fill(n int, make func(int) tasks.Recall) {
	s.t.Helper()
	p := tasks.NewProducer(s.rdb)
	indexes := numbers(n)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range indexes {
				r := make(i)
				r.SentAt = base
				if _, err := p.Enqueue(s.t.Context(), r, tasks.WithPriority(tasks.Bulk), tasks.AllowUnserved()); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func numbers(n int) <-chan int {
	c := make(chan int, n)
	for i := range n {
		c <- i
	}
	close(c)
	return c
}

func TestAWorkerStartsOnceRedisIsThere(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
		simulator.Options{KnowAll: true, NoLimits: true}, lane{"jiguang", "news", ""})
	s.put(ums(1))
	r.Kill()
	w := s.begin()
	w.outage(t, 5*time.Second, func() {}, r.Restart)
	returned := time.Now()
	s.until(backWithin, func() bool { return s.recalled("jiguang") == 1 })
	t.Logf("the first call came %v after Redis", time.Since(returned).Round(time.Millisecond))
	if n := w.says(`"level":"error"`); n != 1 {
		t.Errorf("said %d times that Redis cannot be used:\n%s", n, tail(w.output()))
	}
	s.until(5*time.Second, func() bool { return w.get("readyz") == http.StatusOK })
	w.stops(t, 5*time.Second)
}

// A stop while Redis is frozen: with idle lanes, and with calls in flight whose outcomes cannot be written.
func TestAStopWhileRedisIsFrozenEnds(t *testing.T) {
	long(t)
	for _, how := range []string{"idle", "busy"} {
		t.Run(how, func(t *testing.T) {
			r := redistest.Start(t)
			lanes, accounts := fifty()
			s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
				simulator.Options{KnowAll: true, NoLimits: true, Accounts: accounts, Latency: 200 * time.Millisecond}, lanes...)
			if how == "busy" {
				for i := range 50 {
					s.fill(40, func(n int) tasks.Recall {
						u := ums(100*i + n)
						u.App = fmt.Sprint("app", i)
						return u
					})
				}
			}
			w := s.ready()
			s.until(10*time.Second, func() bool { // each of the servers has subscribed
				return s.rdb.PubSubNumSub(t.Context(), "asynq:cancel").Val()["asynq:cancel"] == int64(2*len(lanes))
			})
			if how == "busy" {
				s.until(20*time.Second, func() bool { return s.recalled("jiguang") > 200 })
			}
			r.Freeze()
			defer r.Thaw()
			began := time.Now()
			w.signal(syscall.SIGTERM)
			code := w.exit(stopWithin)
			t.Logf("left with %d after %v", code, time.Since(began).Round(time.Millisecond))
		})
	}
}

// The master dies, the Sentinels agree on the replica, and work goes on there.
func TestWorkGoesOnAfterASentinelFailover(t *testing.T) {
	long(t)
	t.Parallel()
	sentinels := redistest.StartSentinels(t, redisPassword, sentinelPassword)
	s := newFormSite(t, sentinelsForm(t, sentinels), simulator.Options{KnowAll: true, NoLimits: true, Latency: 20 * time.Millisecond},
		lane{"jiguang", "news", "concurrency: 8"}, lane{"timchat", "chat", "concurrency: 8, limits: []"})
	w := s.ready()
	s.put(ums(0))
	s.until(5*time.Second, func() bool { return s.recalled("jiguang") == 1 })
	died := time.Now()
	sentinels.Master.Kill()
	lines, cpu := w.lines(), w.cpu()
	// New work, put in as soon as Redis takes it.
	p := tasks.NewProducer(s.rdb)
	for i := 1; ; i++ {
		u := ums(i)
		u.SentAt = base
		if _, err := p.Enqueue(t.Context(), u, tasks.AllowUnserved()); err == nil {
			break
		}
		if time.Since(died) > redistest.DownAfter+15*time.Second {
			t.Fatal("nothing could be enqueued")
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("the first recall was enqueued %v after the master's death", time.Since(died).Round(time.Millisecond))
	s.until(time.Until(died.Add(redistest.DownAfter+15*time.Second)), func() bool { return s.recalled("jiguang") >= 2 })
	t.Logf("and called after %v", time.Since(died).Round(time.Millisecond))
	if n := w.lines() - lines; n > linesWithin+2 {
		t.Errorf("%d lines of log in a failover:\n%s", n, tail(w.output()))
	}
	if used := w.cpu() - cpu; used > time.Since(died)/4 {
		t.Errorf("%v of processor time in %v", used, time.Since(died))
	}
	s.until(5*time.Second, func() bool { return w.get("readyz") == http.StatusOK })
	w.stops(t, stopWithin)
}

// A node of a Cluster is killed and comes back with its file. Everything goes on by itself, and the log is quiet meanwhile.
func TestWorkGoesOnAfterAClusterNodeWasAway(t *testing.T) {
	long(t)
	t.Parallel()
	nodes := redistest.StartCluster(t)
	section := fmt.Sprintf("{cluster: [%q, %q, %q]}", nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)
	lanes, accounts := fifty()
	s := newFormSite(t, form{worker: section, admin: redisconn.Options{Cluster: []string{nodes[0].Addr}}},
		simulator.Options{KnowAll: true, NoLimits: true, Accounts: accounts}, lanes...)
	w := s.ready()
	nodes[1].Kill()
	before, began := w.lines(), time.Now()
	<-time.After(10 * time.Second) // the time that the node is away
	if lines := w.lines() - before; lines > linesWithin {
		t.Errorf("%d lines of log in %v with a node away:\n%s", lines, time.Since(began).Round(time.Second), tail(w.output()))
	}
	nodes[1].Restart()
	returned := time.Now()
	s.until(backWithin, func() bool {
		info := nodes[1].Client(t).ClusterInfo(t.Context()).Val()
		return strings.Contains(info, "cluster_state:ok")
	})
	for i := range 50 {
		u := ums(i)
		u.App = fmt.Sprint("app", i)
		s.put(u)
	}
	s.until(time.Until(returned.Add(backWithin)), func() bool { return s.recalled("jiguang") == 50 })
	t.Logf("all lanes worked %v after the node had come back", time.Since(returned).Round(time.Millisecond))
	w.stops(t, stopWithin)
}

// A Redis that is full answers every ping and takes no task. That must not be silent, and what waits must go on once there is room.
func TestAFullRedisIsTold(t *testing.T) {
	long(t)
	t.Parallel()
	r := redistest.Start(t)
	admin := r.Client(t)
	s := newFormSite(t, form{worker: fmt.Sprintf("{url: %q}", r.URL), admin: redisconn.Options{URL: r.URL}},
		simulator.Options{KnowAll: true, NoLimits: true, Latency: 100 * time.Millisecond}, lane{"jiguang", "news", "concurrency: 8"})
	const n = 500
	s.fill(n, ums)
	w := s.ready()
	s.until(10*time.Second, func() bool { return s.recalled("jiguang") > 50 })
	full := func(maxmemory string) {
		t.Helper()
		if err := admin.ConfigSet(t.Context(), "maxmemory", maxmemory).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1mb")
	before, text := w.lines(), len(w.output())
	<-time.After(10 * time.Second) // the time that Redis is full
	said := w.output()[text:]
	told := strings.Count(said, "OOM")
	if lines := strings.Count(said, "\n"); told == 0 || lines > linesWithin+10 { // and some that had ended just then
		t.Errorf("%d of %d lines of log say that Redis is full:\n%s", told, lines-before, tail(said))
	}
	calls := len(s.sim.Ledger())
	full("0")
	s.until(backWithin, func() bool { return len(s.sim.Ledger()) > calls })
	s.awaitOutcomes(n, leaseWithin)
	for id, e := range s.outcomes {
		if !tasks.Succeeded(fmt.Sprint(e["outcome"])) {
			t.Errorf("%s ended as %v: %v", id, e["outcome"], e["error"])
		}
	}
	w.stops(t, 5*time.Second)
}
