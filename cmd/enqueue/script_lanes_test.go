package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
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
	leftTime   = regexp.MustCompile(`\(\d+[a-z]+( \d+[a-z]+)? left\)`)
	timestamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	taskIDs    = regexp.MustCompile(`_[0-9a-f]{32}\b`)
	needsTime  = regexp.MustCompile(`(needs +)(\d+[a-z]+ \d+[a-z]+|\d+[a-z]+) at`)
)

// cleanCommand: clean FROM TO: what changes from run to run becomes words.
func cleanCommand(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	text = timestamps.ReplaceAllString(text, "STAMP")
	text = taskIDs.ReplaceAllString(text, "_ID")
	text = leftTime.ReplaceAllString(text, "(TIME left)")
	text = clockTime.ReplaceAllString(text, "CLOCK")
	text = agoTime.ReplaceAllString(text, "TIME ago")
	text = inTime.ReplaceAllString(text, "in TIME")
	text = shortTimes.ReplaceAllString(text, "TIME")
	text = needsTime.ReplaceAllString(text, "${1}TIME at")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// movedCommand: moved FILE QUEUE STATE [NEXT ERROR]: the task that "status -o json" has shown is now in this state, as asynq and a
// worker leave it; sets ID to its id.
func movedCommand(ts *testscript.TestScript, _ bool, args []string) {
	var shown struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &shown))
	ts.Setenv("ID", shown.ID)
	rdb, queue, state := clientOf(ts), args[1], args[2]
	key := tasks.TaskKey(queue, shown.ID)
	ts.Check(rdb.HSet(ctx, key, "state", state).Err())
	if state != "retry" {
		return
	}
	next, err := time.ParseDuration(args[3])
	ts.Check(err)
	at := float64(time.Now().Add(next).Unix())
	ts.Check(rdb.ZAdd(ctx, tasks.QueueKey(queue, "retry"), redis.Z{Score: at, Member: shown.ID}).Err())
	ts.Check(rdb.HSet(ctx, key, tasks.ErrorMark, args[4], "rq_attempts", 3, "rq_refusals", 2, "rq_maybe", 1).Err())
}

// closedCommand: closed PROVIDER:APP MESSAGE_ID: there is a task whose window has closed; sets ID.
func closedCommand(ts *testscript.TestScript, _ bool, args []string) {
	provider, app, _ := strings.Cut(args[0], ":")
	r := tasks.Recall{
		Provider: provider, App: app, MessageID: args[1], From: "a", To: "b",
		SentAt: time.Now().Add(-25 * time.Hour), RecallBy: time.Now().Add(-time.Hour),
	}
	payload, err := r.Encode()
	ts.Check(err)
	_, err = asynq.NewClientFromRedisClient(clientOf(ts)).Enqueue(asynq.NewTask(tasks.TaskType(provider), payload),
		asynq.TaskID(r.ID()), asynq.Queue(tasks.Queue(provider, app, tasks.Urgent)))
	ts.Check(err)
	ts.Setenv("ID", r.ID())
}

// failedCommand: failed PROVIDER:APP BATCH MESSAGE_ID OUTCOME CODE ERROR: a batch knows this failure, and nothing else does.
func failedCommand(ts *testscript.TestScript, _ bool, args []string) {
	provider, app, _ := strings.Cut(args[0], ":")
	batch, rdb := args[1], clientOf(ts)
	r := tasks.Recall{V: 1, Provider: provider, App: app, MessageID: args[2], SentAt: time.Now(), Batch: batch, Seq: 1}
	f := tasks.Failure{Recall: r, ID: r.ID(), Error: args[5], Outcome: tasks.Outcome{Outcome: args[3], Code: args[4], Attempts: 1, FinishedAt: time.Now()}}
	ts.Check(rdb.ZAdd(ctx, tasks.BatchesKey, redis.Z{Score: 1, Member: batch}).Err())
	_, err := tasks.CountIn(ctx, rdb, batch, tasks.Count{Seq: 1, ID: r.ID(), As: args[3], Failure: &f})
	ts.Check(err)
}
