package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// programs are built once.
var programs string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "recallq-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../cmd/worker", "../../cmd/enqueue", "../../cmd/simulator")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return m.Run()
}

// sources makes a test's cached result depend on what the programs are built from, which go test cannot see.
var sources = sync.OnceValue(func() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		if ext := filepath.Ext(path); ext == ".go" || ext == ".lua" {
			_, err = os.Stat(path)
		}
		return err
	})
})

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RECALLQ_LONG") != "1" {
		t.Skip("takes minutes; RECALLQ_LONG=1 runs it")
	}
}

// site is a Redis, a simulator and any number of workers.
type site struct {
	t       *testing.T
	redis   *redistest.Server
	rdb     *redis.Client
	sim     *simulator.Simulator
	vendors *simulator.Server
	config  string
}

// lane is an app of the configuration, on the simulator's sample accounts.
type lane struct{ provider, app, more string }

func newSite(t *testing.T, opt simulator.Options, lanes ...lane) *site {
	t.Helper()
	if err := sources(); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, redis: redistest.Start(t)}
	s.rdb = s.redis.Client(t)
	sim, err := simulator.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s.sim = sim
	t.Cleanup(sim.Close)
	if s.vendors, err = sim.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.vendors.Close() })
	s.config = s.writeConfig(s.redis.URL, s.vendors.URL, lanes)
	return s
}

func (s *site) writeConfig(redisURL, vendors string, lanes []lane) string {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "redis: {url: %q}\nlisten: 127.0.0.1:0\napps:\n", redisURL)
	for _, l := range lanes {
		account := map[string]string{
			"jiguang":   "channel_key: 7d431e42dfa6a6d693ac2d04, master_secret: 5e987ac6d2e04d95a9d8f0d1",
			"engagelab": "app_key: c96f42e0d2e662e45d035ab1, master_secret: df4d59e84eac2f9d53b36f12",
			"timpush":   "sdk_app_id: 1400000000, secret_key: 5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e",
			"timchat":   "sdk_app_id: 1400000000, secret_key: 5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e",
			"rongcloud": "app_key: uwd1c0sxdlx2, app_secret: Y1W2MeFwwwRxa0",
		}[l.provider]
		if strings.Contains(l.more, "_key") {
			account = "" // the lane brings an account of its own
		}
		fields := []string{"provider: " + l.provider, "app: " + l.app, "base_url: " + fmt.Sprintf("%q", vendors)}
		for _, more := range []string{account, l.more} {
			if more != "" {
				fields = append(fields, more)
			}
		}
		fmt.Fprintf(&b, "  - {%s}\n", strings.Join(fields, ", "))
	}
	path := filepath.Join(s.t.TempDir(), "recallq.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// program is a running process.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (s *site) start(name string, args ...string) *program {
	s.t.Helper()
	p := &program{t: s.t, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(programs, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Env = append(os.Environ(), "RECALLQ_REDIS_URL=")
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	s.t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, tail(p.output()))
		}
	})
	return p
}

func tail(text string) string {
	const most = 4000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

func (p *program) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// exit waits for the end and returns the exit status.
func (p *program) exit(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("still running after %v:\n%s", within, tail(p.output()))
		return -1
	}
}

// worker starts a worker and waits until it serves its lanes.
func (s *site) worker() *program {
	s.t.Helper()
	p := s.start("worker", "--config", s.config)
	s.until(10*time.Second, func() bool {
		page := between(p.output(), `"page":"`, `"`)
		if page == "" {
			return false
		}
		res, err := http.Get(page + "readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return p
}

func between(text, before, after string) string {
	_, rest, ok := strings.Cut(text, before)
	if !ok {
		return ""
	}
	found, _, _ := strings.Cut(rest, after)
	return found
}

func (s *site) until(within time.Duration, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("it did not happen within %v", within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) enqueue(r tasks.Recall, opts ...tasks.EnqueueOption) tasks.Result {
	s.t.Helper()
	if r.SentAt.IsZero() {
		r.SentAt = time.Now().Add(-time.Minute)
	}
	res, err := tasks.NewProducer(s.rdb).Enqueue(s.t.Context(), r, append(opts, tasks.AllowUnserved())...)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

// bulk enqueues n recalls by many hands.
func (s *site) bulk(n int, make func(i int) tasks.Recall, opts ...tasks.EnqueueOption) {
	s.t.Helper()
	p := tasks.NewProducer(s.rdb)
	var wg sync.WaitGroup
	next := func() func() int {
		var mu sync.Mutex
		i := -1
		return func() int {
			mu.Lock()
			defer mu.Unlock()
			i++
			return i
		}
	}()
	for range 32 {
		wg.Go(func() {
			for i := next(); i < n; i = next() {
				r := make(i)
				if r.SentAt.IsZero() {
					r.SentAt = time.Now().Add(-time.Minute)
				}
				if _, err := p.Enqueue(s.t.Context(), r, append(opts, tasks.AllowUnserved())...); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// ended is how many recalls have ended, each counted once.
type ended struct {
	last     string
	outcomes map[string]string // id -> outcome
}

func (s *site) follow() *ended { return &ended{last: "0", outcomes: map[string]string{}} }

func (s *site) await(e *ended, n int, within time.Duration) {
	s.t.Helper()
	deadline := time.Now().Add(within)
	for len(e.outcomes) < n {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d recalls ended within %v", len(e.outcomes), n, within)
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{tasks.OutcomesKey, e.last}, Count: 1000, Block: 100 * time.Millisecond}).Result()
		cancel()
		var netErr net.Error
		if err != nil && !errors.Is(err, redis.Nil) && !errors.As(err, &netErr) && !errors.Is(err, context.DeadlineExceeded) {
			s.t.Fatal(err)
		}
		for _, stream := range streams {
			for _, m := range stream.Messages {
				e.last = m.ID
				e.outcomes[fmt.Sprint(m.Values["id"])] = fmt.Sprint(m.Values["outcome"])
			}
		}
	}
}

func (e *ended) all(t *testing.T, want string) {
	t.Helper()
	for id, outcome := range e.outcomes {
		if outcome != want {
			t.Errorf("%s ended as %s, want %s", id, outcome, want)
		}
	}
}

// violations are the calls that broke a limit of the vendor's.
func (s *site) violations() (n int, example string) {
	for c := range s.sim.Calls() {
		if c.Violation != "" {
			n++
			example = fmt.Sprintf("call %d at %s broke %s", c.Seq, c.Time.Format(time.StampMicro), c.Violation)
		}
	}
	return n, example
}

// callsOf counts the calls for each message.
func (s *site) callsOf() map[string]int {
	calls := map[string]int{}
	for c := range s.sim.Calls() {
		calls[c.MessageID]++
	}
	return calls
}

func push(i int) tasks.Recall {
	return tasks.Recall{
		Provider: "timpush", App: "chat", MessageID: fmt.Sprintf("%08x_537ed82a_%x", base.Unix(), i),
		OfflinePushTitle: "Recalled",
	}
}

// base is when all messages of a test run were sent: ids must not change within it.
var base = time.Now().Add(-time.Minute)

func ums(i int) tasks.Recall {
	return tasks.Recall{Provider: "jiguang", App: "news", MessageID: fmt.Sprintf("v:1t:%dp:%dn:1", base.Unix(), i)}
}

func chat(i int) tasks.Recall {
	return tasks.Recall{
		Provider: "timchat", App: "chat", MessageID: chatID(i, base), From: "service", To: fmt.Sprint("user", i),
	}
}

func chatID(i int, sent time.Time) string { return fmt.Sprintf("%d_1_%d", i, sent.Unix()) }
