package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

var ctx = context.Background()

var update = flag.Bool("update", false, "write what the scripts' cmp commands find into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"enqueue": main})
}

// TestScripts runs the program against a Redis of its own for each script, in which a worker has published lanes.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			server := miniredis.NewMiniRedis()
			if err := server.Start(); err != nil {
				return err
			}
			env.Defer(server.Close)
			return prepare(env, server.Addr(), server)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsCommand, "expand": expandCommand, "lane": laneCommand, "numbers": numbersCommand,
			"ended": endedCommand, "redis": redisCommand, "worker": workerCommand, "hold": holdCommand,
			"narrow": narrowCommand, "clean": cleanCommand, "moved": movedCommand, "closed": closedCommand, "failed": failedCommand,
			"ends": endsCommand, "keep": keepCommand,
			"until": untilCommand,
		},
	})
}

// TestScriptOnRealRedis runs the script of the everyday use against a real Redis.
func TestScriptOnRealRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	testscript.Run(t, testscript.Params{
		Files:               []string{"testdata/script/add.txtar"},
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return prepare(env, server.Addr, nil) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsCommand, "redis": redisCommand,
		},
	})
}

// TestManyRows runs what takes too long on an embedded Redis.
func TestManyRows(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendfsync", "no")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/real",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup:               func(env *testscript.Env) error { return prepare(env, server.Addr, nil) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsCommand, "redis": redisCommand, "numbers": numbersCommand,
		},
	})
}

const (
	clientKey = "client"
	serverKey = "server"
)

func prepare(env *testscript.Env, addr string, server *miniredis.Miniredis) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	env.Defer(func() { _ = rdb.Close() })
	env.Values[clientKey], env.Values[serverKey] = rdb, server
	env.Setenv("RECALLQ_REDIS_URL", "redis://"+addr+"/0")
	env.Setenv("REDIS_ADDR", addr)
	env.Setenv("GORACE", "atexit_sleep_ms=0") // a race detector that waits a second at the end of each program
	now := time.Now()
	env.Setenv("NOW", strconv.FormatInt(now.Unix(), 10))
	env.Setenv("AGO_40M", strconv.FormatInt(now.Add(-40*time.Minute-30*time.Second).Unix(), 10))
	env.Setenv("AGO_40M_HEX", strconv.FormatInt(now.Add(-40*time.Minute-30*time.Second).Unix(), 16))
	return publish(rdb, "jiguang:news", "timchat:chat", "timpush:chat", "rongcloud:community", "engagelab:abroad", "engagelab:home")
}

func publish(rdb redis.Cmdable, names ...string) error {
	for _, name := range names {
		provider, app, _ := strings.Cut(name, ":")
		spec, ok := providers.Lookup(provider)
		if !ok {
			return fmt.Errorf("no provider in %q", name)
		}
		l := tasks.Lane{Provider: provider, App: app, Window: spec.Window, Limits: spec.Limits, LastSeen: time.Now()}
		if err := tasks.PublishLane(ctx, rdb, l); err != nil {
			return err
		}
	}
	return nil
}

func clientOf(ts *testscript.TestScript) *redis.Client { return ts.Value(clientKey).(*redis.Client) }

// exitsCommand: exits CODE PROGRAM ARGS...: as exec, with a certain exit code.
func exitsCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// expandCommand: expand FILE...: puts environment variables into files.
func expandCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// laneCommand: lane PROVIDER:APP [seen=AGE] [hold=REASON] [simulated]
func laneCommand(ts *testscript.TestScript, _ bool, args []string) {
	provider, app, _ := strings.Cut(args[0], ":")
	spec, _ := providers.Lookup(provider)
	l := tasks.Lane{Provider: provider, App: app, Window: spec.Window, Limits: spec.Limits, LastSeen: time.Now()}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "seen":
			age, err := time.ParseDuration(value)
			ts.Check(err)
			l.LastSeen = l.LastSeen.Add(-age)
		case "window":
			window, err := time.ParseDuration(value)
			ts.Check(err)
			l.Window = window
		case "hold":
			l.Hold = value
		case "simulated":
			l.Simulated = true
		case "text":
			l.HasDefaultText = true
		default:
			ts.Fatalf("lane: unknown argument %q", arg)
		}
	}
	ts.Check(tasks.PublishLane(ctx, clientOf(ts), l))
}

// redisCommand: redis stop | redis answers ERROR | redis password PASSWORD | redis user NAME PASSWORD | redis COMMAND...: the server goes
// away; answers an error to everything; there is another one with a password, or for a user, at SECURE_ADDR; the command's answer is printed.
func redisCommand(ts *testscript.TestScript, _ bool, args []string) {
	server, _ := ts.Value(serverKey).(*miniredis.Miniredis)
	switch args[0] {
	case "stop":
		server.Close()
	case "answers":
		server.SetError(strings.Join(args[1:], " "))
	case "password", "user":
		// A server of its own: miniredis reads its passwords without a lock, so they have to be there before it starts.
		other := miniredis.NewMiniRedis()
		if args[0] == "user" {
			other.RequireUserAuth(args[1], args[2])
		} else {
			other.RequireAuth(args[1])
		}
		ts.Check(other.Start())
		ts.Defer(other.Close)
		ts.Setenv("SECURE_ADDR", other.Addr())
	default:
		words := make([]any, len(args))
		for i, a := range args {
			words[i] = a
		}
		answer, err := clientOf(ts).Do(ctx, words...).Result()
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), answer)
	}
}

// numbersCommand: numbers FILE COUNT FORMAT: writes a file of COUNT rows.
func numbersCommand(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	var b strings.Builder
	for n := range count {
		fmt.Fprintf(&b, args[2]+"\n", n+1)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

// endedCommand: ended FILE QUEUE OUTCOME: writes what a worker writes when the recall that "status -o json" has shown ends, and
// sets ID to its task id.
func endedCommand(ts *testscript.TestScript, _ bool, args []string) {
	var shown struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &shown))
	text := fmt.Sprintf(`{"outcome":%q,"code":"1015055","attempts":2,"finished_at":"2026-01-01T00:00:00.000Z"}`, args[2])
	ts.Check(clientOf(ts).HSet(ctx, tasks.TaskKey(args[1], shown.ID), "result", text).Err())
	ts.Setenv("ID", shown.ID)
}
