package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// workerCommand: worker QUEUE...: a worker process serves the queues, as long as the script runs.
func workerCommand(ts *testscript.TestScript, _ bool, args []string) {
	queues := make(map[string]int, len(args))
	for _, q := range args {
		queues[q] = 1
	}
	srv := asynq.NewServerFromRedisClient(clientOf(ts), asynq.Config{
		Concurrency: 1, Queues: queues, TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	ts.Check(srv.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })))
	ts.Defer(srv.Shutdown)
	inspector := asynq.NewInspectorFromRedisClient(clientOf(ts))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		servers, err := inspector.Servers()
		ts.Check(err)
		if len(servers) > 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the worker was not registered within 10s")
		}
	}
}

// holdCommand: hold PROVIDER:APP REASON AGE NEXT SAYS: writes a hold as a lane's workers do, and publishes it. Unavailable ones
// are for all credentials.
func holdCommand(ts *testscript.TestScript, _ bool, args []string) {
	name, reason, says := args[0], args[1], args[4]
	age, err := time.ParseDuration(args[2])
	ts.Check(err)
	next, err := time.ParseDuration(args[3])
	ts.Check(err)
	now := time.Now()
	text, err := json.Marshal(map[string]any{
		"reason": reason, "says": says, "since": now.Add(-age).UnixMilli(), "next": now.Add(next).UnixMilli(), "n": 1,
	})
	ts.Check(err)
	field := "hold:0123456789abcdef"
	if reason == string(providers.Unavailable) {
		field = "hold:any"
	}
	rdb := clientOf(ts)
	ts.Check(rdb.HSet(ctx, "recallq:lane:{"+name+"}", field, text).Err())
	provider, app, _ := strings.Cut(name, ":")
	spec, _ := providers.Lookup(provider)
	ts.Check(tasks.PublishLane(ctx, rdb, tasks.Lane{
		Provider: provider, App: app, Window: spec.Window, Limits: spec.Limits, Hold: reason, HoldUntil: now.Add(next), LastSeen: now,
	}))
}

// narrowCommand: narrow FILE: no line is wider than a terminal of 80 columns.
func narrowCommand(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if n := cells(strings.TrimSuffix(line, "\n")); n > pageWidth {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}

var (
	clockTime = regexp.MustCompile(`(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\dZ`)
	agoTime   = regexp.MustCompile(`\b\d+s ago\b`)
	inTime    = regexp.MustCompile(`\bin \d+[a-z]+( \d+[a-z]+)?\b`)
	// Only in a table, where the columns stay as they are.
	shortTimes = regexp.MustCompile(`\b23h (19|20)m\b`)
	needsTime  = regexp.MustCompile(`(needs +)(\d+[a-z]+ \d+[a-z]+|\d+[a-z]+) at`)
)

// cleanCommand: clean FROM TO: what changes from run to run becomes words.
func cleanCommand(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	text = clockTime.ReplaceAllString(text, "CLOCK")
	text = agoTime.ReplaceAllString(text, "TIME ago")
	text = inTime.ReplaceAllString(text, "in TIME")
	text = shortTimes.ReplaceAllString(text, "TIME")
	text = needsTime.ReplaceAllString(text, "${1}TIME at")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}
