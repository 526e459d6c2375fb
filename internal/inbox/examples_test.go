package inbox_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// The examples do what they say, as a user of Redis that may do nothing else.
func TestExamples(t *testing.T) {
	t.Parallel()
	const password = "p@ss:word/%+ of push"
	for _, example := range []struct {
		program []string
		file    string
		rows    int
	}{
		{[]string{"sh"}, "inbox.sh", 5},
		{[]string{"python3"}, "inbox.py", 1_203},
		{[]string{"java"}, "Inbox.java", 1_203},
	} {
		t.Run(example.file, func(t *testing.T) {
			t.Parallel()
			needs := example.program[0]
			if example.file == "inbox.sh" {
				needs = "redis-cli"
			}
			if _, err := exec.LookPath(needs); err != nil {
				fmt.Fprintf(os.Stderr, "SKIPPED %s: no %s on PATH\n", t.Name(), needs)
				t.Skip("no " + needs + " on PATH")
			}
			s := redistest.Start(t, "--appendfsync", "no")
			rdb := s.Client(t)
			publish(t, rdb)
			if err := rdb.Do(t.Context(), "ACL", "SETUSER", "push", "on", ">"+password, "~"+inbox.Key, "-@all", "+xadd").Err(); err != nil {
				t.Fatal(err)
			}
			producer := func(password, input string, args ...string) (string, error) {
				words := append(append(example.program[1:], filepath.Join("..", "..", "docs", "examples", example.file)), args...)
				cmd := exec.CommandContext(t.Context(), example.program[0], words...)
				host, port, _ := net.SplitHostPort(s.Addr)
				cmd.Env = append(os.Environ(), "REDIS_HOST="+host, "REDIS_PORT="+port, "REDIS_USER=push", "REDISCLI_AUTH="+password,
					"RECALLQ_REDIS_URL=redis://push:"+escape(password)+"@"+s.Addr)
				cmd.Stdin = strings.NewReader(input)
				out, err := cmd.CombinedOutput()
				return string(out), err
			}

			const ref = `广播 "早上好" \ $HOME %s`
			var input strings.Builder
			for n := range example.rows {
				fmt.Fprintf(&input, `{"provider":"jiguang","message_id":"%d","sent_at":%d,"ref":%q}`+"\n\n", n, time.Now().Unix(), ref)
			}
			out, err := producer(password, input.String(), "--batch", "b", "--urgent")
			if ids := strings.Fields(out); err != nil || len(ids) != example.rows || !strings.Contains(ids[0], "-") {
				t.Fatalf("%v: %.300s", err, out)
			}
			refused, err := producer(password, "no JSON") // and no line's end
			if err != nil {
				t.Fatalf("%v: %s", err, refused)
			}
			stop, _ := run(t, rdb)
			drained(t, rdb)
			stop()
			wantQueued(t, rdb, urgent, example.rows)
			wantSums(t, rdb, "b", map[string]int64{"total": int64(example.rows), "open": int64(example.rows)})
			if got := outcomes(t, rdb); len(got) != 1 || got[0]["id"] != strings.TrimSpace(refused) {
				t.Errorf("%q: %v", refused, got)
			}
			r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: "0"}
			if msg := rdb.HGet(t.Context(), tasks.TaskKey("jiguang:news", r.ID()), "msg").Val(); !strings.Contains(msg, "广播") {
				t.Errorf("%q", msg)
			}

			checkFailures(t, rdb, producer)
		})
	}
}

// checkFailures makes sure that what was not accepted is not taken for accepted.
func checkFailures(t *testing.T, rdb *redis.Client, producer func(password, input string, args ...string) (string, error)) {
	t.Helper()
	wantFailure := func(what, out string, err error) {
		t.Helper()
		if err == nil || strings.TrimSpace(out) == "" || strings.Contains(out, "Traceback") || strings.Contains(out, "\tat ") {
			t.Errorf("%s: %v, %q", what, err, out)
		}
	}
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "push", ">allowed", "-xadd").Err(); err != nil {
		t.Fatal(err)
	}
	out, err := producer("allowed", row("1"))
	wantFailure("no permission", out, err)
	out, err = producer("allowed", row("1"), "--colour")
	wantFailure("a flag that is none", out, err)
	out, err = producer("allowed", row("1"), "--batch")
	wantFailure("a flag without its value", out, err)
	if strings.Contains(out, "not set") { // the shell's own words
		t.Errorf("a flag without its value: %q", out)
	}
	// redis-cli goes on as the default user, if that one is allowed in without a password.
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "default", "off").Err(); err != nil {
		t.Fatal(err)
	}
	out, err = producer("wrong", row("1"))
	wantFailure("a wrong password", out, err)
}

// escape writes a text as part of a URL's login.
func escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
