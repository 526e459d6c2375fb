package main

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/tasks"
)

// offered is what pressing tab behind these words offers.
func offered(t *testing.T, addr string, words ...string) []string {
	t.Helper()
	var out, errs safeBuffer
	env := func(name string) (string, bool) {
		value, ok := map[string]string{redisURLEnv: "redis://" + addr + "/0"}[name]
		return value, ok
	}
	if code := run(t.Context(), append([]string{"__complete"}, words...), env, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Errorf("%v: exit code %d", words, code)
	}
	if text := errs.String(); strings.Contains(text, "redis") || strings.Contains(text, "enqueue:") {
		t.Errorf("%v: something is said: %s", words, text)
	}
	list, _, _ := strings.Cut(out.String(), "\n:")
	if strings.HasPrefix(out.String(), ":") {
		return nil
	}
	return strings.Split(list, "\n")
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if err := publish(rdb, "jiguang:news", "engagelab:abroad", "engagelab:home", "timpush:news"); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"old", "incident-41", "\x1b[31m", "newest"} {
		rdb.ZAdd(ctx, tasks.BatchesKey, redis.Z{Score: float64(i), Member: name})
	}
	batches, apps := []string{"newest", "incident-41", "old"}, []string{"news", "abroad", "home"}
	for words, want := range map[string][]string{
		"watch |": batches, "report |": batches, "retry |": batches, "cancel |": batches, "watch old |": nil,
		"report old -o |": {"table", "json", "csv", "ndjson"}, "report old --output |": {"table", "json", "csv", "ndjson"},
		"batches -o |": {"table", "json"}, "watch old -o |": {"table", "json"},
		"status --app |": apps, "pause --app |": apps, "resume --app |": apps,
		"status --provider engagelab --app |": {"abroad", "home"}, "pause --provider timpush --app |": {"news"}, "pause --provider rongcloud --app |": nil,
		"retry old --outcome |": {"expired", "not_found", "rejected", "cancelled"},
	} {
		if diff := cmp.Diff(want, offered(t, server.Addr(), strings.Split(strings.ReplaceAll(words, "|", ""), " ")...)); diff != "" {
			t.Errorf("%s: %s", words, diff)
		}
	}
}

// Every help has examples, which can be typed as they stand.
func TestEveryHelpHasExamples(t *testing.T) {
	t.Parallel()
	root := (&program{}).rootCommand()
	addExamples(root)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if !strings.Contains(cmd.Example, "  enqueue ") && !strings.Contains(cmd.Example, "(enqueue ") {
			t.Errorf("%s: the examples are %q", cmd.CommandPath(), cmd.Example)
		}
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			command, _, _ := strings.Cut(strings.TrimPrefix(line, "  "), " #")
			if strings.Contains(strings.TrimSpace(command), "  ") || exec.Command("sh", "-n", "-c", strings.ReplaceAll(command, "<(", "$(")).Run() != nil {
				t.Errorf("%s: no command: %s", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// What the help of add shows works as it is typed, on any day: no id has a time in it that is long past.
func TestTheExamplesOfAddWork(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if err := publish(rdb, "engagelab:abroad", "jiguang:news", "timchat:chat", "timpush:chat", "rongcloud:community"); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "redis://" + server.Addr(), name == redisURLEnv }
	for line := range strings.SplitSeq((&program{}).addCommand().Example, "\n") {
		words, err := exec.Command("sh", "-c", strings.Replace(line, "enqueue", "printf '%s\n'", 1)).Output()
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		args := strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")
		if code := run(t.Context(), args, env, strings.NewReader(""), &out, &errs); code != exitOK {
			t.Errorf("%s: exit code %d\n%s", line, code, errs.String())
		}
	}
}

// A Redis that does not answer costs a moment, and nothing is said.
func TestCompletionWithoutRedis(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, addr := range []string{silent.Addr().String(), closed.Addr().String()} {
		began := time.Now()
		for _, words := range [][]string{{"watch", ""}, {"status", "--app", ""}} {
			if got := offered(t, addr, words...); got != nil {
				t.Errorf("%v: %q", words, got)
			}
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: took %s", addr, took)
		}
	}
}
