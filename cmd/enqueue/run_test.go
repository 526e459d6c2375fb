package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// safeBuffer can be read while the program writes.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running is one run of the program inside the test, with a pipe for its standard input.
type running struct {
	t              *testing.T
	rdb            *redis.Client
	stdin          *io.PipeWriter
	stdout, stderr safeBuffer
	interrupt      context.CancelFunc
	code           chan int
	ahead          atomic.Int64 // how far the program's clock is ahead of ours, in nanoseconds
}

func start(t *testing.T, addr string, patience time.Duration, args ...string) *running {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	if err := publish(rdb, "engagelab:abroad"); err != nil {
		t.Fatal(err)
	}
	return launch(t, addr, patience, args...)
}

// launch is start without a lane, so that Redis need not be there.
func launch(t *testing.T, addr string, patience time.Duration, args ...string) *running {
	t.Helper()
	s := &running{t: t, rdb: redis.NewClient(&redis.Options{Addr: addr}), code: make(chan int, 1)}
	t.Cleanup(func() { _ = s.rdb.Close() })
	runCtx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s.interrupt = cancel
	stdin, w := io.Pipe()
	s.stdin = w
	t.Cleanup(func() { _ = w.Close() })
	p := &program{
		args: args, now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }, patience: patience, stdin: stdin, stdout: &s.stdout, stderr: &s.stderr,
		env: func(name string) (string, bool) {
			value, ok := map[string]string{redisURLEnv: "redis://" + addr + "/0"}[name]
			return value, ok
		},
	}
	go func() { s.code <- p.run(runCtx) }()
	return s
}

// feed writes ids to standard input. Once the program has ended nobody reads them, which is no fault.
func (s *running) feed(from, to int) {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "engagelab-message-%08d\n", n)
	}
	_, _ = io.WriteString(s.stdin, b.String())
}

func (s *running) exit() int {
	s.t.Helper()
	select {
	case code := <-s.code:
		return code
	case <-time.After(60 * time.Second):
		s.t.Fatalf("the program does not end\n%s", s.stderr.String())
		return 0
	}
}

func (s *running) queued() int {
	return int(s.rdb.LLen(ctx, "asynq:{engagelab:abroad:bulk}:pending").Val())
}

func (s *running) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within a minute: %s\n%s", what, s.stderr.String())
		}
	}
}

func (s *running) says(text string) func() bool {
	return func() bool { return strings.Contains(s.stderr.String(), text) }
}

// batchHas compares fields of the batch's hash.
func (s *running) batchHas(name string, want map[string]string) {
	s.t.Helper()
	have := s.rdb.HGetAll(ctx, tasks.BatchKey(name)).Val()
	for field, value := range want {
		if have[field] != value {
			s.t.Errorf("the batch's %s is %q, want %q", field, have[field], value)
		}
	}
}

var closing = regexp.MustCompile(`read (\d+) = enqueued (\d+) \+ duplicate (\d+) \+ expired (\d+) \+ invalid (\d+) \+ failed (\d+)\n$`)

// counts are the numbers of the closing line, which it checks to add up.
func (s *running) counts() (read, enqueued, duplicate, failed int) {
	s.t.Helper()
	m := closing.FindStringSubmatch(s.stdout.String())
	if m == nil {
		s.t.Fatalf("no closing line in %q", s.stdout.String())
	}
	var n [7]int
	for i := 1; i < 7; i++ {
		n[i], _ = strconv.Atoi(m[i])
	}
	if n[1] != n[2]+n[3]+n[4]+n[5]+n[6] {
		s.t.Errorf("the closing line does not add up: %s", m[0])
	}
	return n[1], n[2], n[3], n[6]
}

var bulkArgs = []string{"--file", "-", "--provider", "engagelab", "--sent-at", "40m", "--confirm"}

func TestInterrupted(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	server := miniredis.RunT(t)
	s := start(t, server.Addr(), time.Minute, bulkArgs...)
	s.feed(0, 4_000)
	s.until("1,500 recalls queued", func() bool { return s.queued() >= 1500 })
	s.interrupt()
	if code := s.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	read, enqueued, _, _ := s.counts()
	if read != enqueued || enqueued != s.queued() {
		t.Errorf("read %d, enqueued %d, in the queue %d: want the same", read, enqueued, s.queued())
	}
	if !s.says("set as now: RECALLQ_REDIS_URL\n")() {
		t.Errorf("the variable that says where Redis is is not named: %q", s.stderr.String())
	}
	resume := regexp.MustCompile(`to go on from here: enqueue --file - --provider engagelab --confirm --batch (\S+) --sent-at (\S+)\n`)
	m := resume.FindStringSubmatch(s.stderr.String())
	if m == nil {
		t.Fatalf("no command that resumes in %q", s.stderr.String())
	}
	if sent, err := time.Parse(time.RFC3339, m[2]); err != nil || time.Since(sent) < 40*time.Minute {
		t.Errorf("the command that resumes says --sent-at %s", m[2])
	}
	_ = s.stdin.Close()

	again := start(t, server.Addr(), time.Minute, append(bulkArgs, "--batch", m[1])...)
	again.feed(0, 4_000)
	_ = again.stdin.Close()
	if code := again.exit(); code != exitOK {
		t.Errorf("exit code %d of the second run\n%s", code, again.stderr.String())
	}
	read, more, duplicate, _ := again.counts()
	if read != 4_000 || duplicate != enqueued || more+duplicate != 4_000 || again.queued() != 4_000 {
		t.Errorf("after %d: read %d, enqueued %d, duplicate %d, in the queue %d", enqueued, read, more, duplicate, again.queued())
	}
	again.batchHas(m[1], map[string]string{"total": "4000", "duplicate": "0", "reading": "0", "inputs": "1"})
	if !strings.Contains(again.stdout.String(), "still open in this batch") {
		t.Errorf("the duplicates are not said to be in this batch: %q", again.stdout.String())
	}
}

func TestRedisAwayForAWhile(t *testing.T) {
	server := miniredis.RunT(t)
	s := start(t, server.Addr(), time.Minute, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 2_000)
	s.until("some recalls queued", func() bool { return s.queued() >= 500 })
	server.Close()
	go func() {
		s.feed(2_000, 4_000)
		_ = s.stdin.Close()
	}()
	s.until("the message", s.says("; waiting up to 1m for it\n"))
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if code := s.exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, s.stderr.String())
	}
	if !s.says("Redis answers again; going on\n")() {
		t.Errorf("the return is not said: %q", s.stderr.String())
	}
	// What was written although its answer was lost is no duplicate.
	if _, enqueued, duplicate, _ := s.counts(); enqueued != 4_000 || duplicate != 0 || s.queued() != 4_000 {
		t.Errorf("enqueued %d, duplicate %d, in the queue %d, want 4000, 0, 4000", enqueued, duplicate, s.queued())
	}
	s.batchHas("b", map[string]string{"total": "4000", "duplicate": "0", "reading": "0"})
}

func TestRedisAwayForTooLong(t *testing.T) {
	server := miniredis.RunT(t)
	s := start(t, server.Addr(), 300*time.Millisecond, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 5_000)
	s.until("some recalls queued", func() bool { return s.queued() >= 500 })
	server.Close()
	go s.feed(5_000, 10_000)
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	for _, want := range []string{"; gave up after 0s\n", "standard input has to be given again", "to go on from here: enqueue --file - --provider engagelab --confirm --batch b --sent-at "} {
		if !s.says(want)() {
			t.Errorf("%q is missing in %q", want, s.stderr.String())
		}
	}
	if _, enqueued, _, failed := s.counts(); enqueued < 500 || failed == 0 {
		t.Errorf("enqueued %d, failed %d", enqueued, failed)
	}
}

func TestRedisKilledAndRestarted(t *testing.T) {
	server := redistest.Start(t)
	s := start(t, server.Addr, time.Minute, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 5_000)
	s.until("some recalls queued", func() bool { return s.queued() >= 500 })
	server.Kill()
	go func() {
		s.feed(5_000, 10_000)
		_ = s.stdin.Close()
	}()
	s.until("the message", s.says("waiting up to 1m for it"))
	server.Restart()
	if code := s.exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, s.stderr.String())
	}
	// What was written although its answer was lost is no duplicate.
	if _, enqueued, duplicate, _ := s.counts(); enqueued != 10_000 || duplicate != 0 || s.queued() != 10_000 {
		t.Errorf("enqueued %d, duplicate %d, in the queue %d, want 10000, 0, 10000", enqueued, duplicate, s.queued())
	}
	s.batchHas("b", map[string]string{"total": "10000", "duplicate": "0", "reading": "0"})
}

// Redis comes back with what it had when it last saved. The run says what is lost and fails; the same command again makes the batch whole.
func TestRedisCameBackWithoutItsLastWrites(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "no")
	args := append(bulkArgs, "--batch", "b", "--priority", "bulk")
	s := start(t, server.Addr, time.Minute, args...)
	s.feed(0, 500)
	counted := func(n string) func() bool {
		return func() bool { return s.rdb.HGet(ctx, tasks.BatchKey("b"), "total").Val() == n }
	}
	s.until("500 recalls counted", counted("500"))
	if err := s.rdb.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	s.feed(500, 700)
	s.until("700 recalls counted", counted("700"))
	server.Kill()
	s.feed(700, 800)
	s.until("the message", s.says("waiting up to 1m for it"))
	server.Restart()
	_ = s.stdin.Close()
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d, want %d\n%s", code, exitFailure, s.stderr.String())
	}
	for _, want := range []string{" and has lost 200 recalls of this run; the same command again enqueues them\n", "to go on from here: enqueue --file - "} {
		if !s.says(want)() {
			t.Errorf("%q is missing in %q", want, s.stderr.String())
		}
	}
	if read, enqueued, _, failed := s.counts(); read != 800 || enqueued != 600 || failed != 200 || s.queued() != 600 {
		t.Errorf("read %d, enqueued %d, failed %d, in the queue %d, want 800, 600, 200, 600", read, enqueued, failed, s.queued())
	}
	s.batchHas("b", map[string]string{"total": "600", "reading": "1"})

	again := start(t, server.Addr, time.Minute, args...)
	again.feed(0, 800)
	_ = again.stdin.Close()
	if code := again.exit(); code != exitOK {
		t.Errorf("exit code %d of the second run\n%s", code, again.stderr.String())
	}
	if _, enqueued, duplicate, _ := again.counts(); enqueued != 200 || duplicate != 600 || again.queued() != 800 {
		t.Errorf("enqueued %d, duplicate %d, in the queue %d, want 200, 600, 800", enqueued, duplicate, again.queued())
	}
	again.batchHas("b", map[string]string{"total": "800", "duplicate": "0", "reading": "0"})
}

// A pipe that was interrupted is not read to its end because another one was, under the same batch.
func TestAnotherPipeIsAnotherInput(t *testing.T) {
	server := miniredis.RunT(t)
	args := append(bulkArgs, "--batch", "b", "--priority", "bulk")
	run := func(from, to int) *running {
		s := start(t, server.Addr(), time.Minute, args...)
		s.feed(from, to)
		return s
	}
	first := run(0, 24)
	first.until("24 recalls queued", func() bool { return first.queued() == 24 })
	first.interrupt()
	if code := first.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	_ = first.stdin.Close()
	for _, step := range []struct {
		from, to int
		want     map[string]string
	}{
		{1000, 1005, map[string]string{"total": "29", "inputs": "2", "reading": "1"}},
		{0, 100, map[string]string{"total": "105", "inputs": "2", "reading": "0"}},
	} {
		s := run(step.from, step.to)
		_ = s.stdin.Close()
		if code := s.exit(); code != exitOK {
			t.Errorf("exit code %d\n%s", code, s.stderr.String())
		}
		s.batchHas("b", step.want)
	}
}

func TestRedisOutOfMemory(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "10mb", "--maxmemory-policy", "noeviction")
	s := start(t, server.Addr, time.Minute, append(bulkArgs, "--batch", "b", "--yes")...)
	go s.feed(0, 50_000)
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	if !s.says("Redis is out of memory and refuses writes; free memory or raise maxmemory\n")() {
		t.Errorf("out of memory is not said: %q", s.stderr.String())
	}
	counted, _ := s.rdb.HGet(ctx, tasks.BatchKey("b"), "total").Int()
	if short := counted < s.queued(); short != s.says("the batch has not counted all of the recalls that are in the queue: the same command again mends that\n")() {
		t.Errorf("%d of %d recalls are counted: %q", counted, s.queued(), s.stderr.String())
	}
	if _, enqueued, _, failed := s.counts(); enqueued == 0 || failed == 0 || enqueued > s.queued() {
		t.Errorf("enqueued %d, failed %d, in the queue %d", enqueued, failed, s.queued())
	}
}

// madeUp makes up rows as they are read and looks at the heap on the way.
type madeUp struct {
	rows, next int
	most       uint64
	left       []byte
}

func (m *madeUp) Read(p []byte) (int, error) {
	if len(m.left) == 0 {
		if m.next == m.rows {
			return 0, io.EOF
		}
		m.next++
		m.left = fmt.Appendf(m.left, "{\"provider\":\"engagelab\",\"message_id\":\"m%d\",\"ref\":\"order %d\"}\n", m.next, m.next)
		if m.next%20_000 == 0 {
			m.most = max(m.most, heap())
		}
	}
	n := copy(p, m.left)
	m.left = m.left[n:]
	return n, nil
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestMemoryDoesNotGrow runs 100,000 rows through everything but Redis.
func TestMemoryDoesNotGrow(t *testing.T) {
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if err := publish(rdb, "engagelab:abroad"); err != nil {
		t.Fatal(err)
	}
	const bound = 10 << 20
	before := heap()
	in := &madeUp{rows: 100_000}
	var out, messages bytes.Buffer
	code := run(ctx, []string{"--file", "-", "--sent-at", "40m", "--dry-run"}, func(name string) (string, bool) {
		return "redis://" + server.Addr() + "/0", name == redisURLEnv
	}, in, &out, &messages)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, messages.String())
	}
	if !strings.HasSuffix(out.String(), "read 100000 = enqueued 100000 + duplicate 0 + expired 0 + invalid 0 + failed 0\n") {
		t.Errorf("result %q", out.String())
	}
	if in.most > before+bound {
		t.Errorf("the heap grew from %d to %d bytes", before, in.most)
	}
}
