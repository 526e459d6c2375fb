package redisconn

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
)

// redisError is what a server answers.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// told collects changes.
type told struct {
	mu   sync.Mutex
	list []string
}

func (w *told) tell(c Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Another {
		w.list = append(w.list, "another: "+c.Err.Error())
		return
	}
	if c.Down {
		w.list = append(w.list, "down: "+c.Err.Error())
		return
	}
	w.list = append(w.list, "up after "+c.Lasted.String())
}

func (w *told) want(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(want, w.list); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func run(ctx context.Context, l *Link, err error) {
	_ = l.ProcessHook(func(context.Context, redis.Cmder) error { return err })(ctx, nil)
}

func TestALinkTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &told{}
		l := NewLink(w.tell)
		ctx := t.Context()
		run(ctx, l, nil)
		run(ctx, l, redis.Nil)
		run(ctx, l, redisError("WRONGTYPE that is no list"))
		w.want(t)
		for range 100 { // many lanes, again and again
			run(ctx, l, io.EOF)
			time.Sleep(50 * time.Millisecond)
		}
		if !l.Down() {
			t.Error("not down")
		}
		run(ctx, l, nil) // the first that works
		run(ctx, l, io.ErrUnexpectedEOF)
		w.want(t, "down: EOF")
		time.Sleep(calm)
		run(ctx, l, nil)
		run(ctx, l, nil)
		w.want(t, "down: EOF", "up after 6s")
		if l.Down() {
			t.Error("still down")
		}
	})
}

// Redis is full, is restarted, and comes back with another password: each reason is told, once.
func TestALinkTellsAnotherReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &told{}
		l := NewLink(w.tell)
		const full, stranger = redisError("OOM command not allowed"), redisError("WRONGPASS invalid username-password pair")
		for _, phase := range []struct {
			errs   []error
			reason string
		}{
			{[]error{full, nil}, "OOM command not allowed"},
			{[]error{io.EOF, errors.New("connection refused"), redisError("LOADING Redis is loading the dataset in memory")}, "it does not answer"},
			{[]error{stranger}, "WRONGPASS invalid username-password pair"},
		} {
			for range 10 {
				for _, err := range phase.errs {
					run(t.Context(), l, err)
					time.Sleep(time.Second)
				}
			}
			if got := l.Reason(); got != phase.reason {
				t.Errorf("reason %q, want %q", got, phase.reason)
			}
		}
		time.Sleep(partialCalm)
		run(t.Context(), l, nil)
		w.want(t, "down: OOM command not allowed", "another: connection refused", "another: WRONGPASS invalid username-password pair", "up after 1m15s")
		if got := l.Reason(); got != "" {
			t.Errorf("reason %q of a Redis that is there", got)
		}
	})
}

// That a Redis takes writes again is known within seconds, and nothing is asked of one that is there.
func TestALinkThatLooksKnowsSoonThatWritesAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &told{}
		l := NewLink(w.tell)
		var mended atomic.Bool
		var writes atomic.Int64
		full := redisError("OOM command not allowed")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.look(ctx, func() error {
			writes.Add(1)
			var err error
			if !mended.Load() {
				err = full
			}
			run(ctx, l, err)
			return err
		})
		time.Sleep(lookEvery / 4) // between two looks
		time.Sleep(time.Minute)
		if n := writes.Load(); n > 0 {
			t.Errorf("%d writes to a Redis that is there", n)
		}
		run(ctx, l, full)
		time.Sleep(time.Minute)
		if n, most := writes.Load(), int64(time.Minute/lookEvery); n > most || !l.Down() {
			t.Errorf("%d writes in a minute, want at most %d; down: %v", n, most, l.Down())
		}
		mended.Store(true)
		time.Sleep(lookEvery)
		synctest.Wait()
		w.want(t, "down: OOM command not allowed", "up after 1m1.5s")
	})
}

// With one node of a Cluster away, or a Redis that only reads, some commands work all the time.
func TestALinkDoesNotFlicker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cluster bool
		err     error
	}{{true, io.EOF}, {false, redisError("OOM command not allowed")}, {false, redisError("READONLY You can't write")}} {
		synctest.Test(t, func(t *testing.T) {
			w := &told{}
			l := NewLink(w.tell)
			l.cluster = c.cluster
			for range 20 {
				run(t.Context(), l, c.err)
				time.Sleep(5 * time.Second)
				run(t.Context(), l, nil)
			}
			time.Sleep(partialCalm)
			run(t.Context(), l, nil)
			w.want(t, "down: "+c.err.Error(), "up after 1m55s")
		})
	}
}

// A caller that has lost its patience, or that stops, says nothing about Redis.
func TestALinkIgnoresImpatientCallers(t *testing.T) {
	t.Parallel()
	w := &told{}
	l := NewLink(w.tell)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run(ctx, l, context.DeadlineExceeded)
	run(t.Context(), l, redis.ErrClosed)
	w.want(t)
	l.Hurry(time.Now().Add(time.Minute))
	run(t.Context(), l, errors.New("i/o timeout"))
	w.want(t)
}

func TestALinkInAHurryEndsCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(func(Change) {})
		hang := func(ctx context.Context, _ []redis.Cmder) error {
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		l.Hurry(began.Add(2 * time.Second))
		for _, want := range []time.Duration{hurried, 2 * time.Second, 2 * time.Second} {
			if err := l.ProcessPipelineHook(hang)(t.Context(), nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if got := time.Since(began); got != want {
				t.Errorf("ended after %v, want %v", got, want)
			}
		}
	})
}

func TestALinkOnARealRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	changes := make(chan Change, 10)
	l := NewLink(func(c Change) { changes <- c })
	c, err := NewUnrepeated(Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	l.Watch(c)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	_ = c.Ping(t.Context()).Err()
	if change := <-changes; !change.Down || change.Err == nil || !l.Down() {
		t.Errorf("%+v", change)
	}
	s.Restart()
	for l.Down() {
		_ = c.Ping(t.Context()).Err()
	}
	if change := <-changes; change.Down {
		t.Errorf("%+v", change)
	}
	operator := s.Client(t)
	if err := operator.ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}
	if err := operator.ClientKillByFilter(t.Context(), "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	for !strings.HasPrefix(l.Reason(), "NOAUTH") {
		_ = c.Ping(t.Context()).Err()
	}
	if err := operator.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	looking, stop := context.WithCancel(t.Context())
	defer stop()
	go l.Look(looking, c)
	for change := range changes {
		if !change.Down {
			break
		}
	}
	stop()
	s.Freeze()
	defer s.Thaw()
	l.Hurry(time.Now().Add(time.Minute))
	began := time.Now()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a frozen Redis answers")
	}
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("in a hurry a command took %v", took)
	}
	if len(changes) > 0 {
		t.Error("something was told while the program stops")
	}
}
