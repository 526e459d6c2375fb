package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// TestBatchScriptsOnRealRedis runs the scripts about batches against real ones, as miniredis does not scan as Redis does.
func TestBatchScriptsOnRealRedis(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"report", "retry", "cancel", "batches"} {
		server := redistest.Start(t)
		testscript.Run(t, testscript.Params{
			Files:               []string{"testdata/script/" + name + ".txtar"},
			RequireExplicitExec: true,
			Setup:               func(env *testscript.Env) error { return prepare(env, server.Addr, nil) },
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"exits": exitsCommand, "redis": redisCommand, "ends": endsCommand, "expand": expandCommand, "lane": laneCommand,
			},
		})
	}
}

// endsCommand: ends QUEUE MESSAGE_ID OUTCOME [CODE [ERROR]]: does what a worker does when a waiting recall ends: it writes the
// outcome to the book of record. MESSAGE_ID may be * for all that wait.
func endsCommand(ts *testscript.TestScript, _ bool, args []string) {
	rdb := clientOf(ts)
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	waiting, err := inspector.ListPendingTasks(args[0], asynq.PageSize(100_000))
	ts.Check(err)
	found := 0
	for _, task := range waiting {
		r, err := tasks.Decode(task.Payload)
		ts.Check(err)
		if args[1] != "*" && args[1] != r.MessageID {
			continue
		}
		found++
		e := ledger.Entry{ID: task.ID, Recall: r, Outcome: tasks.Outcome{Outcome: args[2], Attempts: 1, FinishedAt: time.Now()}}
		if len(args) > 3 {
			e.Outcome.Code = args[3]
		}
		e.Error = strings.Join(args[min(4, len(args)):], " ")
		ts.Check(ledger.New(rdb).Record(ctx, ledger.Task{Queue: args[0], ID: task.ID}, e))
		if !tasks.Succeeded(args[2]) {
			ts.Check(inspector.ArchiveTask(args[0], task.ID))
		}
	}
	if found == 0 {
		ts.Fatalf("ends: %s does not wait in %s", args[1], args[0])
	}
}

// keepCommand: keep NAME PATTERN: sets an environment variable to what follows the pattern in the last standard output, up to a
// quotation mark.
func keepCommand(ts *testscript.TestScript, _ bool, args []string) {
	_, rest, found := strings.Cut(ts.ReadFile("stdout"), args[1])
	if !found {
		ts.Fatalf("keep: there is no %q", args[1])
	}
	value, _, _ := strings.Cut(rest, `"`)
	ts.Setenv(args[0], value)
}

// untilCommand: until FILE TEXT: waits until a program in the background has written a text to a file.
func untilCommand(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(text), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("until: no %q in %s: %s", args[1], args[0], text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
