package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// mostMemory is what an enqueuer may need at its peak, in KiB, however long its input is.
const mostMemory = 64 << 10

// An input of a million rows whose enqueuer is killed at 20 random points, and each time run again with the same batch: every recall is
// one task, and the sums hold after each kill.
func TestAnInputKilledAgainAndAgainIsResumed(t *testing.T) {
	rows, kills := 20_000, 5
	if os.Getenv("RECALLQ_LONG") == "1" {
		rows, kills = 1_000_000, 20 // alone on the machine
	} else {
		t.Parallel()
	}
	if err := sources(); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, redis: redistest.Start(t, "--appendonly", "no")}
	s.rdb = s.redis.Client(t)
	file := chatFile(t, rows)
	run := func() *program {
		return s.start("enqueue", "--redis", s.redis.URL, "--file", file, "--batch", "big", "--confirm", "--allow-unserved", "--reason", "drill")
	}
	pending := "asynq:{" + tasks.Queue("timchat", "chat", tasks.Bulk) + "}:pending"

	points := make([]int64, kills)
	for i := range points {
		points[i] = rand.Int64N(int64(rows))
	}
	slices.Sort(points)
	for _, point := range points {
		p := run()
		s.until(5*time.Minute, func() bool {
			select {
			case <-p.done:
				t.Fatalf("enqueue has ended before row %d:\n%s", point, tail(p.output()))
			default:
			}
			return s.rdb.LLen(t.Context(), pending).Val() >= point
		})
		p.signal(syscall.SIGKILL)
		<-p.done
		sums := s.sums("big")
		if sums["total"] > int64(rows) || sums["total"] != sums[tasks.Open] {
			t.Fatalf("after the kill at %d: %v", point, sums)
		}
	}
	last := run()
	s.peaksBelow(mostMemory, last)
	if code := last.exit(time.Second); code != 0 {
		t.Fatalf("enqueue left with %d:\n%s", code, tail(last.output()))
	}
	if want := fmt.Sprintf("read %d = enqueued ", rows); !strings.Contains(last.output(), want) {
		t.Errorf("enqueue said %s, want %s", tail(last.output()), want)
	}
	if n := s.distinct(pending); n != rows {
		t.Errorf("%d distinct tasks, want %d", n, rows)
	}
	want := map[string]int64{"total": int64(rows), tasks.Open: int64(rows)}
	for name, n := range s.sums("big") {
		if n != want[name] {
			t.Errorf("%s is %d, want %d", name, n, want[name])
		}
	}
	again := run()
	s.peaksBelow(mostMemory, again)
	if code := again.exit(time.Second); code != 0 {
		t.Fatalf("enqueue left with %d:\n%s", code, tail(again.output()))
	}
	if want := fmt.Sprintf("read %d = enqueued 0 + duplicate %d + expired 0", rows, rows); !strings.Contains(again.output(), want) {
		t.Errorf("the second run said %s, want %s", tail(again.output()), want)
	}
	if n := s.sums("big")["total"]; n != int64(rows) {
		t.Errorf("total is %d after the second run", n)
	}
	t.Logf("killed at %v", points)
}

// peaksBelow waits for a program's end and looks at its memory meanwhile. What the system tells of it afterwards is no use: it
// counts the memory of the test before the program took its place.
func (s *site) peaksBelow(most int, p *program) {
	s.t.Helper()
	status := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	s.until(10*time.Minute, func() bool {
		text, _ := os.ReadFile(status) // not there: it has ended, or this is no Linux
		peak, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(between(string(text), "VmHWM:", "\n"), "kB")))
		if peak > most {
			s.t.Fatalf("it has taken %d KiB, more than %d", peak, most)
		}
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
}

// chatFile writes recalls of one-to-one messages.
func chatFile(t testing.TB, rows int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.ndjson")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	for i := range rows {
		r := chat(i)
		fmt.Fprintf(w, `{"provider":"timchat","app":"chat","message_id":%q,"from":%q,"to":%q}`+"\n", r.MessageID, r.From, r.To)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// sums are a batch's counters, with what is open beyond the others.
func (s *site) sums(batch string) map[string]int64 {
	s.t.Helper()
	fields, err := s.rdb.HGetAll(s.t.Context(), tasks.BatchKey(batch)).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, name := range append(tasks.Outcomes(), "total", tasks.Duplicate) {
		if sums[name], err = strconv.ParseInt(fields[name], 10, 64); err != nil {
			s.t.Fatal(err)
		}
	}
	sums[tasks.Open] = sums["total"] - sums[tasks.Duplicate]
	for _, outcome := range tasks.Outcomes() {
		sums[tasks.Open] -= sums[outcome]
	}
	return sums
}

// distinct counts the different tasks that wait in a list, and that each of them is there.
func (s *site) distinct(list string) int {
	s.t.Helper()
	const page = 10_000
	seen := map[string]bool{}
	for from := int64(0); ; from += page {
		ids, err := s.rdb.LRange(s.t.Context(), list, from, from+page-1).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		if len(ids) == 0 {
			return len(seen)
		}
		keys := make([]string, len(ids))
		for i, id := range ids {
			if seen[id] {
				s.t.Errorf("%s waits twice", id)
			}
			seen[id] = true
			keys[i] = strings.TrimSuffix(list, "pending") + "t:" + id
		}
		if n := s.rdb.Exists(s.t.Context(), keys...).Val(); n != int64(len(ids)) {
			s.t.Errorf("%d of %d tasks are there", n, len(ids))
		}
	}
}

// BenchmarkEnqueueFile enqueues a file of recalls, and before and after that lets redis-benchmark send asynq's own script, pipelined, to the
// same Redis: what can be had there. "percent" is of that.
func BenchmarkEnqueueFile(b *testing.B) {
	tool, err := exec.LookPath("redis-benchmark")
	if err != nil {
		b.Skip("no redis-benchmark on PATH")
	}
	server := redistest.Start(b, "--appendonly", "no")
	rdb := server.Client(b)
	file := chatFile(b, b.N)
	b.ResetTimer()
	before := scriptsPerSecond(b, tool, server, rdb)
	cmd := exec.Command(filepath.Join(programs, "enqueue"), "--redis", server.URL, "--file", file, "--confirm", "--allow-unserved", "--priority", "bulk")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v:\n%s", err, out)
	}
	ours := float64(b.N) / time.Since(start).Seconds()
	after := scriptsPerSecond(b, tool, server, rdb)
	b.ReportMetric(ours, "recalls/s")
	b.ReportMetric((before+after)/2, "scripts/s")
	b.ReportMetric(100*ours/((before+after)/2), "percent")
}

// scriptsPerSecond lets redis-benchmark enqueue tasks that are as long as a recall's.
func scriptsPerSecond(b *testing.B, tool string, server *redistest.Server, rdb *redis.Client) float64 {
	b.Helper()
	var script []any
	seen := rdb.WithTimeout(time.Minute)
	seen.AddHook(watching(func(cmd redis.Cmder) {
		if cmd.Name() == "evalsha" {
			script = cmd.Args()
		}
	}))
	r := chat(0)
	r.SentAt = time.Now()
	if _, err := tasks.NewProducer(seen).Enqueue(b.Context(), r, tasks.AllowUnserved()); err != nil {
		b.Fatal(err)
	}
	id := r.ID()
	args := []string{"-u", server.URL, "-q", "-n", "300000", "-r", "1000000000", "-P", "250", "-c", "4"}
	for _, arg := range script {
		text := fmt.Sprint(arg)
		if payload, ok := arg.([]byte); ok {
			text = strings.Repeat("x", len(payload))
		}
		args = append(args, strings.ReplaceAll(text, id, "timchat___rand_int__"+id[len(id)-20:]))
	}
	out, err := exec.Command(tool, args...).Output()
	if err != nil {
		b.Fatal(err)
	}
	last := out[bytes.LastIndex(out, []byte("\r"))+1:]
	rate, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(between(string(last), ": ", "requests per second"), " ")), 64)
	if err != nil {
		b.Fatalf("%v: %q", err, last)
	}
	rdb.FlushAll(b.Context())
	return rate
}

// watching is a hook that sees each command.
type watching func(redis.Cmder)

func (w watching) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w watching) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w(cmd)
		return next(ctx, cmd)
	}
}

func (w watching) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
