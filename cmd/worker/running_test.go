package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// running is a worker in this process, as the command line starts it. Tests of it are not parallel: go-redis has one logger for all.
type running struct {
	t       *testing.T
	config  string
	vendors string
	sim     *simulator.Simulator
	signals chan os.Signal
	exited  chan int

	mu  sync.Mutex
	out bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// newRunning returns a worker that was not started. {REDIS} and {VENDORS} in the configuration are the addresses of a Redis and of
// the simulated vendors.
func newRunning(t *testing.T, redisURL, config string) *running {
	t.Helper()
	sim, err := simulator.New(simulator.Options{KnowAll: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	vendors, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vendors.Close() })
	r := &running{
		t: t, config: filepath.Join(t.TempDir(), "recallq.yaml"), vendors: vendors.URL, sim: sim,
		signals: make(chan os.Signal, 2), exited: make(chan int, 1),
	}
	r.write(strings.ReplaceAll(config, "{REDIS}", redisURL))
	return r
}

// write writes the configuration.
func (r *running) write(config string) {
	r.t.Helper()
	text := strings.ReplaceAll(config, "{VENDORS}", r.vendors)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) start(args ...string) {
	r.t.Helper()
	noEnv := func(string) (string, bool) { return "", false }
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.exited <- run(append([]string{"--config", r.config}, args...), noEnv, r.signals, r, r)
	}()
	r.t.Cleanup(func() {
		for range 2 { // the second one stops now
			select {
			case r.signals <- syscall.SIGTERM:
			default:
			}
		}
		<-done
		if r.t.Failed() {
			r.t.Logf("the worker said:\n%s", r.said())
		}
	})
}

// exit waits for the end and returns the exit status.
func (r *running) exit(within time.Duration) int {
	r.t.Helper()
	select {
	case code := <-r.exited:
		return code
	case <-time.After(within):
		r.t.Fatalf("still running after %s", within)
		return -1
	}
}

func (r *running) until(within time.Duration, what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("it did not happen within %s that %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// get asks one of the worker's own addresses: "readyz". The status is zero while nobody answers.
func (r *running) get(path string) (status int, body string) {
	_, rest, found := strings.Cut(r.said(), `"page":"`)
	page, _, _ := strings.Cut(rest, `"`)
	if !found {
		return 0, ""
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func (r *running) ready() {
	r.t.Helper()
	r.until(20*time.Second, "it is ready", func() bool {
		status, _ := r.get("readyz")
		return status == http.StatusOK
	})
}

const oneLane = `redis: {url: "{REDIS}"}
listen: 127.0.0.1:0
apps:
  - {provider: jiguang, app: news, channel_key: 7d431e42dfa6a6d693ac2d04, master_secret: 5e987ac6d2e04d95a9d8f0d1, base_url: "{VENDORS}"}
`

// A full Redis answers every ping. Readiness and a metric tell, as the log does, and soon that it takes writes again.
func TestAWorkerIsNotReadyWhileRedisIsFull(t *testing.T) {
	s := redistest.Start(t)
	w := newRunning(t, s.URL, oneLane)
	w.start()
	w.ready()
	if err := s.Client(t).ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	w.until(20*time.Second, "a full Redis is told", func() bool {
		status, body := w.get("readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, `"redis":false,"redis_reason":"OOM command not allowed`)
	})
	if _, metrics := w.get("metrics"); !strings.Contains(metrics, "\nrecallq_redis_up 0\n") {
		t.Error("recallq_redis_up is not 0")
	}
	if n := strings.Count(w.said(), "redis does not answer; nothing is called until it does"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if err := s.Client(t).ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	w.until(10*time.Second, "it is ready again", func() bool {
		status, body := w.get("readyz")
		return status == http.StatusOK && !strings.Contains(body, "redis_reason")
	})
	if _, metrics := w.get("metrics"); !strings.Contains(metrics, "\nrecallq_redis_up 1\n") {
		t.Error("recallq_redis_up is not 1")
	}
}

// What a call came to could not be written: that is no clean stop.
func TestAStopThatCouldNotWriteAnOutcomeIsAFailure(t *testing.T) {
	s := redistest.Start(t)
	rdb := s.Client(t)
	w := newRunning(t, s.URL, oneLane)
	w.start()
	w.ready()
	if _, err := w.sim.Fault(simulator.Fault{Provider: "jiguang", Times: 1, Behaviour: simulator.Behaviour{Latency: 2 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: "1", SentAt: time.Now()}
	if _, err := tasks.NewProducer(rdb).Enqueue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w.until(5*time.Second, "it is called", func() bool {
		return rdb.ZCard(t.Context(), "recallq:lane:{jiguang:news}:flight").Val() == 1
	})
	s.Freeze()
	defer s.Thaw()
	w.signals <- syscall.SIGTERM
	if code := w.exit(30 * time.Second); code != exitFailure {
		t.Errorf("left with %d, want %d", code, exitFailure)
	}
	if !strings.Contains(w.said(), "worker: stopped without redis; ") {
		t.Error("it does not say why")
	}
}
