package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

func TestWarnsOfARedisThatLosesRecalls(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "no", "--save", "", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	s := start(t, server.Addr, time.Minute, "add", "--provider", "engagelab", "--sent-at", "40m", "1828256757")
	if code := s.exit(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"warning: redis keeps nothing on disk (appendonly no, save \"\"): a restart loses all recalls; set appendonly to yes\n",
		"warning: redis throws keys away when its memory is full (maxmemory-policy allkeys-lru), recalls among them; set maxmemory-policy to noeviction\n",
	} {
		if !s.says(want)() {
			t.Errorf("%q is missing in %q", want, s.stderr.String())
		}
	}
}

// A batch has a byte for each of its recalls. Where Redis takes no string that long, it is said beforehand, and what mends it when it
// comes to that.
func TestRedisTakesNoStringAsLongAsTheBatchNeeds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--proto-max-bulk-len", "1mb")
	if err := server.Client(t).HSet(ctx, tasks.BatchKey("b"), "next_seq", 2_000_000).Err(); err != nil {
		t.Fatal(err)
	}
	s := start(t, server.Addr, time.Minute, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 10)
	_ = s.stdin.Close()
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"warning: redis takes no string of more than 1048576 bytes (proto-max-bulk-len),",
		"raise proto-max-bulk-len of Redis (to 128mb)",
	} {
		if !s.says(want)() {
			t.Errorf("%q is missing in %q", want, s.stderr.String())
		}
	}
	if s.says("the same command again mends that")() || s.says("Redis refuses:")() {
		t.Errorf("said: %q", s.stderr.String())
	}
}

// fill makes Redis as full as is asked for, of its maxmemory.
func fill(t *testing.T, rdb *redis.Client, percent int) {
	t.Helper()
	for n := 0; ; n++ {
		info := rdb.InfoMap(ctx, "memory")
		used, _ := strconv.Atoi(info.Item("Memory", "used_memory"))
		most, _ := strconv.Atoi(info.Item("Memory", "maxmemory"))
		if used > most/100*percent {
			return
		}
		if err := rdb.Set(ctx, fmt.Sprint("fill", n), strings.Repeat("x", 50_000), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNearlyFullRedisIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
	fill(t, server.Client(t), fullPercent+2)
	args := []string{"add", "--provider", "engagelab", "--sent-at", "40m", "--batch", "b", "1828256757"}
	s := start(t, server.Addr, time.Minute, args...)
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if !s.says(" of its 20.0 MiB, more than 80 %; free memory, raise maxmemory, or add --yes\n")() {
		t.Errorf("said: %q", s.stderr.String())
	}
	if n := s.rdb.Exists(ctx, tasks.BatchKey("b"), "asynq:{engagelab:abroad}:pending").Val(); n != 0 {
		t.Error("something was written")
	}
	forced := start(t, server.Addr, time.Minute, append(args, "--yes")...)
	if code := forced.exit(); code != exitOK {
		t.Errorf("exit code %d with --yes\n%s", code, forced.stderr.String())
	}
	if !forced.says("warning: redis has used ")() {
		t.Errorf("said: %q", forced.stderr.String())
	}
	if err := server.Client(t).ConfigSet(ctx, "maxmemory", "2mb").Err(); err != nil {
		t.Fatal(err)
	}
	full := launch(t, server.Addr, time.Minute, args...) // what it needs to know is there already
	if code := full.exit(); code != exitFailure || full.says("--yes")() ||
		!full.says(" of its 2.0 MiB; free memory, or raise maxmemory\n")() || !full.says(": redis is full and refuses writes: it has used ")() {
		t.Errorf("exit code %d, said: %q", code, full.stderr.String())
	}
}

func TestARunEndsBeforeRedisIsFull(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory", "40mb", "--maxmemory-policy", "noeviction")
	s := start(t, server.Addr, time.Minute, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 3_000)
	s.until("2,000 recalls queued", func() bool { return s.queued() >= 2_000 })
	fill(t, s.rdb, fullPercent+10) // as somebody else might; buffers of the run come and go
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{" of its 40.0 MiB, more than 80 %; free memory,", "to go on from here: enqueue --file -"} {
		if !s.says(want)() {
			t.Errorf("%q is missing in %q", want, s.stderr.String())
		}
	}
}

func TestPreviewSaysHowMuchMemoryIsFree(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
	args := []string{"--file", "-", "--provider", "engagelab", "--sent-at", "40m", "--dry-run"}
	for rows, want := range map[int]string{
		10:     "of 20.0 MiB (maxmemory) are free",
		20_000: "80 % full, where enqueueing stops:",
	} {
		s := start(t, server.Addr, time.Minute, args...)
		s.feed(0, rows)
		_ = s.stdin.Close()
		if code := s.exit(); code != exitOK {
			t.Errorf("exit code %d\n%s", code, s.stderr.String())
		}
		if text := s.stdout.String(); !strings.Contains(strings.ReplaceAll(text, "\n  ", " "), want) {
			t.Errorf("%q is missing in %s", want, text)
		}
		if n := s.rdb.Exists(ctx, "asynq:{engagelab:abroad:bulk}:pending").Val(); n != 0 {
			t.Error("a dry run has written recalls")
		}
	}
}

// TestMemoryOfARecall compares the estimate with what a real Redis takes.
func TestMemoryOfARecall(t *testing.T) {
	server := redistest.Start(t, "--appendfsync", "no")
	used := func(rdb *redis.Client) int64 {
		n, err := strconv.ParseInt(rdb.InfoMap(ctx, "memory").Item("Memory", "used_memory"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const rows = 20_000
	for name, ref := range map[string]string{"short": "", "long": strings.Repeat("r", 250)} {
		t.Run(name, func(t *testing.T) {
			rdb := server.Client(t)
			rdb.FlushAll(ctx)
			args := append([]string{}, bulkArgs...)
			if ref != "" {
				args = append(args, "--ref", ref)
			}
			s := start(t, server.Addr, time.Minute, append(args, "--batch", "b")...)
			before := used(rdb)
			s.feed(0, rows)
			_ = s.stdin.Close()
			if code := s.exit(); code != exitOK {
				t.Fatalf("exit code %d\n%s", code, s.stderr.String())
			}
			got := float64(used(rdb)-before) / rows
			now := time.Now()
			want := float64(memoryOf(tasks.Recall{
				Provider: "engagelab", App: "abroad", MessageID: "engagelab-message-00000001", SentAt: now, RecallBy: now, Ref: ref,
			}, "b"))
			t.Logf("%.0f bytes a recall, estimated %.0f", got, want)
			if got > 1.2*want || got < 0.8*want {
				t.Errorf("a recall takes %.0f bytes, estimated %.0f", got, want)
			}
		})
	}
}

func TestBytesOf(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0.0 KiB", 774: "0.8 KiB", 10 << 10: "10.0 KiB", 841 << 20: "841 MiB", 1300 << 20: "1.3 GiB", 3 << 40: "3.0 TiB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("bytesOf(%d) = %q, want %q", n, got, want)
		}
	}
}
