package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// What is read with plain commands is what asynq's own Inspector tells.
func TestPlainReadsAreTheInspectors(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]*redis.Client{
		"miniredis": redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()}),
		"redis":     redistest.Start(t).Client(t),
	} {
		t.Run(name, func(t *testing.T) {
			defer rdb.Close()
			client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
			const queue = "jiguang:news"
			add := func(id string, opts ...asynq.Option) {
				t.Helper()
				task := asynq.NewTaskWithHeaders("recall:jiguang", []byte("payload of "+id), map[string]string{"rq_attempts": "2", "rq_maybe": ""})
				if _, err := client.Enqueue(task, append(opts, asynq.TaskID("jiguang_"+id), asynq.Queue(queue))...); err != nil {
					t.Fatal(err)
				}
			}
			add("failing", asynq.MaxRetry(5))
			srv := asynq.NewServerFromRedisClient(rdb, asynq.Config{
				Concurrency: 1, Queues: map[string]int{queue: 1, "jiguang:news:bulk": 2}, TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.FatalLevel,
				RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
			})
			if err := srv.Start(asynq.HandlerFunc(noHandler)); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				info, err := inspector.GetTaskInfo(queue, "jiguang_failing")
				servers, _ := inspector.Servers()
				if err == nil && info.State == asynq.TaskStateRetry && len(servers) == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%+v, %v", info, err)
				}
			}
			all, err := readServers(t.Context(), rdb, time.Now())
			if err != nil || all.on(queue) != 1 || all.on("jiguang:news:bulk", queue) != 1 || all.on("jiguang:other") != 0 {
				t.Errorf("%v, %v", all, err)
			}
			servers, _ := inspector.Servers()
			if _, have := all[process{servers[0].Host, strconv.Itoa(servers[0].PID)}]; !have {
				t.Errorf("%v is not among %v", servers[0], all)
			}
			if late, err := readServers(t.Context(), rdb, time.Now().Add(time.Hour)); err != nil || len(late) != 0 {
				t.Errorf("an hour later: %v, %v", late, err)
			}
			srv.Shutdown()
			add("later", asynq.ProcessIn(time.Hour))
			add("waiting")
			add("archived")
			if err := inspector.ArchiveTask(queue, "jiguang_archived"); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"failing", "later", "waiting", "archived"} {
				info, err := inspector.GetTaskInfo(queue, "jiguang_"+id)
				if err != nil {
					t.Fatal(err)
				}
				if info.State == asynq.TaskStatePending {
					info.NextProcessAt = time.Time{} // the Inspector's is now
				}
				want := seenTask{queue, info.ID, info.State.String(), taskMessage{info.Payload, info.Headers, info.LastErr}, info.NextProcessAt}
				got, err := findTask(t.Context(), rdb, "jiguang_"+id)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(want, *got, gocmp.AllowUnexported(seenTask{}, taskMessage{})); diff != "" {
					t.Errorf("%s: (- Inspector, + we)\n%s", id, diff)
				}
			}
			if got, err := findTask(t.Context(), rdb, "jiguang_nowhere"); got != nil || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// site is a Redis with users, some recalls and a batch, for those who look.
func site(t *testing.T) (*redistest.Server, *redis.Client) {
	t.Helper()
	s := redistest.Start(t)
	admin := s.Client(t)
	if err := publish(admin, "engagelab:abroad"); err != nil {
		t.Fatal(err)
	}
	oneOpen(t, admin)
	return s, admin
}

// as runs the program as a user of Redis.
func as(t *testing.T, s *redistest.Server, user, password string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs safeBuffer
	env := func(name string) (string, bool) {
		return "redis://" + user + ":" + password + "@" + s.Addr + "/0", name == redisURLEnv
	}
	code = run(t.Context(), args, env, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// The user of docs/operations.md who only looks sees all that there is to see, and is told why it can do no more.
func TestWhoOnlyLooksSeesAll(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER looker .*$`).FindString(string(text))
	if line == "" {
		t.Fatal("docs/operations.md has no user looker")
	}
	s, admin := site(t)
	var words []any
	for word := range strings.FieldsSeq(line) {
		words = append(words, word)
	}
	if err := admin.Do(t.Context(), words...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "reads", "reset", "on", ">reads-password", "%R~asynq:*", "%R~recallq:*", "-@all", "+@read", "+ping").Err(); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"looker", "reads"} {
		for _, c := range []struct{ args, want string }{
			{"batches", "b      "}, {"report b", "total 1 ="}, {"report b -o csv", "provider,app"}, {"lanes", "engagelab:abroad: open"}, {"outcomes", ""},
			{"status --provider engagelab 1", "waiting in its queue"}, {"status --provider engagelab 1 -o json", `"lane_state":"its queue is paused"`},
		} {
			if strings.Contains(c.args, "json") {
				pauseUrgent(t, admin)
			}
			code, stdout, stderr := as(t, s, user, user+"-password", strings.Fields(c.args)...)
			if code != exitOK || !strings.Contains(stdout, c.want) || stderr != "" && !strings.Contains(c.args, "csv") {
				t.Errorf("%s: %s: exit code %d, no %q in\n%s\n%s", user, c.args, code, c.want, stdout, stderr)
			}
		}
		for _, c := range []struct{ args, lacks string }{
			{"cancel b", "EVALSHA"}, {"retry b", "SREM"}, {"retry b -o json", "SREM"}, {"resume --provider engagelab", "DEL"},
		} {
			code, stdout, stderr := as(t, s, user, user+"-password", strings.Fields(c.args)...)
			if code != exitFailure || stdout != "" || !strings.HasSuffix(stderr, ": this user of Redis lacks the right to run "+c.lacks+"; widen its ACL\n") {
				t.Errorf("%s: %s: exit code %d\n%s\n%s", user, c.args, code, stdout, stderr)
			}
		}
		if err := asynq.NewInspectorFromRedisClient(admin).UnpauseQueue("engagelab:abroad"); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := as(t, s, "looker", "looker-password", strings.Fields("add --provider engagelab --sent-at 40m --dry-run 77")...)
	const unchecked = ": which rows are in the queue already or have ended was not checked from the first row on: this user of Redis lacks the right to run EXISTS; widen its ACL\n"
	if code != exitOK || !strings.Contains(stderr, unchecked) {
		t.Errorf("a dry run: exit code %d\n%s\n%s", code, stdout, stderr)
	}
	if err := ledger.New(admin).Cancel(t.Context(), "b", "x", time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestRightsThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"NOPERM this user has no permissions to run the 'evalsha' command":                                        "run EVALSHA;",
		"NOPERM this user has no permissions to run the 'config|get' command":                                     "run CONFIG GET;",
		"NOPERM User x has no permissions to run the 'set' command or its subcommand":                             "run SET;",
		"asynq: UNKNOWN: NOPERM this user has no permissions to access one of the keys used as arguments":         "a key that this needs;",
		"NOPERM No permissions to access a key":                                                                   "a key that this needs;",
		"NOPERM this user has no permissions to access one of the channels used as arguments":                     "a channel that this needs;",
		"ERR The user executing the script can't run this command or subcommand script: ec69, on @user_script:4.": "a command or a key that this needs;",
		"ERR ACL failure in script: No permissions to access a key script: 2862, on @user_script:3.":              "a command or a key that this needs;",
		"NOPERM something new":          "a right that this needs;",
		"ERR wrong number of arguments": "",
	} {
		if got := lacksRight(errors.New(text)); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q in it", text, got, want)
		}
	}
}

// A computer whose clock is wrong is told what others are: when workers were seen, when a batch was begun, what is left of a window.
func TestTimesAreRedisOnes(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	behind := time.Now().Add(-90 * time.Minute)
	server.SetTime(behind)
	if err := tasks.PublishLane(ctx, rdb, tasks.Lane{Provider: "engagelab", App: "abroad", Window: 24 * time.Hour, LastSeen: behind}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"add --provider engagelab --batch b --dry-run --sent-at 59m30s 1", []string{"first window closes in                23h\n"}},
		{"add --provider engagelab --batch b --sent-at 59m30s 1", nil},
		{"batches", []string{"  0s ago "}},
		{"report b", []string{", 0s ago\n"}},
		{"status --provider engagelab 1", []string{"(23h left)"}},
		{"retry b --outcome rejected", nil},
		{"cancel b", nil},
		{"report b", []string{"being cancelled by", behind.UTC().Format("2006-01-02T15:04:05")}},
	} {
		var out, errs safeBuffer
		env := func(name string) (string, bool) { return "redis://" + server.Addr() + "/0", name == redisURLEnv }
		if code := run(ctx, strings.Fields(c.args), env, strings.NewReader(""), &out, &errs); code != exitOK {
			t.Errorf("%s: exit code %d", c.args, code)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.args, want, out.String())
			}
		}
		if text := out.String() + errs.String(); strings.Contains(text, "no worker") {
			t.Errorf("%s: %s", c.args, text)
		}
	}
	s := launch(t, server.Addr(), time.Minute, "watch", "b")
	s.until("the first line", func() bool { return strings.Contains(s.stdout.String(), "b: 0 of 1 ended") })
	s.interrupt()
	s.exit()
	if text := s.stdout.String(); strings.Contains(text, "no worker") || !strings.HasPrefix(text, behind.UTC().Format("15:04:05")) {
		t.Error(text)
	}
	if fields := rdb.HGet(ctx, tasks.BatchKey("b"), "created_at").Val(); !strings.HasPrefix(fields, behind.UTC().Format("2006-01-02T15:04:")) {
		t.Errorf("the batch was begun at %s", fields)
	}
}

func TestErrorsOfRedisInWords(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"the connection to Redis broke off":               &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE},
		"Redis does not answer: ":                         &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("something new")},
		"Redis does not answer: redis: connection pool":   redis.ErrPoolTimeout,
		"Redis refuses: ERR x y":                          proto{"ERR x\x1b\ny"},
		"this user of Redis lacks the right to run":       proto{"NOPERM this user has no permissions to run the 'get' command"},
		"invalid character 'x' looking for":               json.Unmarshal([]byte("x"), new(int)),
		"Redis takes no more clients; ":                   fmt.Errorf("look: %w", proto{"ERR max number of clients reached"}),
		"Redis is out of memory and refuses writes; free": errors.New("asynq: UNKNOWN: redis eval error: OOM command not allowed"),
	} {
		if got := sayRedis(err); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// proto is an answer of Redis.
type proto struct{ text string }

func (p proto) Error() string { return p.text }
func (p proto) RedisError()   {}

// What comes from Redis and producers is one line without anything that talks to a terminal, wherever people see it.
func TestNobodyTalksToTheTerminal(t *testing.T) {
	t.Parallel()
	s, admin := site(t)
	b, err := tasks.NewProducer(admin).OpenBatch(ctx, tasks.BatchOptions{Name: "odd", By: odd, Reason: odd, Inputs: []string{odd}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"open", "ended"} {
		r := tasks.Recall{Provider: "engagelab", MessageID: id, SentAt: time.Now().Add(-time.Hour), Ref: odd}
		res, err := b.Enqueue(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if id == "open" {
			continue
		}
		r.App, r.Batch, r.Seq, r.RecallBy = "abroad", "odd", res.Seq, res.RecallBy
		e := ledger.Entry{ID: res.ID, Recall: r, Error: odd, Outcome: tasks.Outcome{Outcome: tasks.Rejected, Code: odd, FinishedAt: time.Now()}}
		if err := ledger.New(admin).Record(ctx, ledger.Task{Queue: "engagelab:abroad", ID: res.ID}, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmp.Or(b.Close(ctx), ledger.New(admin).Cancel(ctx, "odd", odd, time.Now())); err != nil {
		t.Fatal(err)
	}
	admin.HSet(ctx, "recallq:lane:{engagelab:abroad}", "hold:any", `{"reason":"unavailable","says":"`+strings.NewReplacer("\x1b", `\u001b`, "\n", `\n`, "\a", `\u0007`, "\r", `\r`).Replace(odd)+`"}`)
	admin.ZAdd(ctx, tasks.BatchesKey, redis.Z{Score: 1, Member: "odd" + odd})
	admin.HSet(ctx, tasks.BatchKey("odd"+odd), "total", 1)
	admin.HSet(ctx, tasks.BatchKey("lost"), "total", 1, "last_recall_by", "2026-01-01T00:00:00Z", "created_by", odd, "reason", odd)
	admin.ZAdd(ctx, tasks.BatchesKey, redis.Z{Score: 2, Member: "od\x1bx"}) // what "odx" may have meant
	forge(t, admin, "forged", "active", odd)
	forge(t, admin, "open-elsewhere", "pending", "")
	slow := tasks.Lane{Provider: "timchat", App: "slow", Window: 24 * time.Hour, Limits: []providers.Limit{{Calls: 1, Per: time.Hour}}, LastSeen: time.Now()}
	if err := tasks.PublishLane(ctx, admin, slow); err != nil {
		t.Fatal(err)
	}
	admin.HSet(ctx, tasks.LanesKey, "jiguang:x", `{"provider":"jiguang","app":"x","window":"`+"\u202e"+`"}`)
	file := filepath.Join(t.TempDir(), "rows.ndjson")
	row, _ := json.Marshal(map[string]string{"provider": "timchat", "app": "slow", "message_id": "1_1_" + fmt.Sprint(time.Now().Unix()), "from": "a", "to": "\u202egpj"})
	bad, _ := json.Marshal(map[string]string{"provider": "timchat", "app": odd, "message_id": odd, "from": odd, odd: odd})
	if err := os.WriteFile(file, append(append(row, '\n'), bad...), 0o600); err != nil {
		t.Fatal(err)
	}
	add := "add --provider engagelab --sent-at 40m forged open-elsewhere ended "
	for _, args := range []string{
		add + "--dry-run", add + "--batch mine", add + "--batch odd", "--file " + file + " --dry-run", "--file " + file + " --batch mine",
		"batches", "report odd", "lanes", "status --provider engagelab open", "status --provider engagelab ended", "retry odd --outcome rejected", "cancel odd",
		"report odx", "pause --provider engagelab", "resume --provider engagelab", "retry odd", "report odd", "batches", "watch lost", "add --provider engagelab --sent-at 40m --batch watched --watch forged open-elsewhere",
	} {
		_, stdout, stderr := as(t, s, "", "", strings.Fields(args)...)
		if stdout+stderr == "" {
			t.Errorf("%s says nothing", args)
		}
		for line := range strings.SplitSeq(stdout+stderr, "\n") {
			mustBePlain(t, line)
			if strings.HasPrefix(line, "state  recalled") {
				t.Errorf("%s: a line is forged: %s", args, line)
			}
		}
	}
}

// Messages are a line each, with nothing cut off: they may hold a command to be copied.
func TestMessagesArePlain(t *testing.T) {
	t.Parallel()
	long := "enqueue add" + strings.Repeat(" '1  2'", 1000)
	for name, say := range map[string]func(w io.Writer, text string){
		"console": func(w io.Writer, text string) { newConsole(w, "never").say("%s", text) },
		"screen":  func(w io.Writer, text string) { (&screen{out: w}).say(text) },
		"error":   func(w io.Writer, text string) { (&program{stderr: w}).complain(errors.New(text)) },
	} {
		var out bytes.Buffer
		say(&out, strings.ReplaceAll(odd, "\n", "")+long)
		text, whole := strings.CutSuffix(out.String(), long+"\n")
		if mustBePlain(t, text); !whole {
			t.Errorf("%s: %.200q", name, text)
		}
	}
}

// forge makes a task as only somebody who writes to Redis himself can.
func forge(t *testing.T, rdb *redis.Client, id, state, outcome string) {
	t.Helper()
	r := tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: id, SentAt: time.Now(), RecallBy: time.Now().Add(time.Hour), Batch: odd, Seq: 1}
	payload, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	task := asynq.NewTask(tasks.TaskType(r.Provider), payload)
	if _, err := asynq.NewClientFromRedisClient(rdb).Enqueue(task, asynq.TaskID(r.ID()), asynq.Queue("engagelab:abroad")); err != nil {
		t.Fatal(err)
	}
	fields := []any{"state", state}
	if outcome != "" {
		result, _ := json.Marshal(tasks.Outcome{Outcome: outcome, FinishedAt: time.Now()})
		fields = append(fields, "result", result)
	}
	rdb.HSet(ctx, tasks.TaskKey("engagelab:abroad", r.ID()), fields...)
}

func noHandler(context.Context, *asynq.Task) error { return errors.New("not today") }

func pauseUrgent(t *testing.T, rdb *redis.Client) {
	t.Helper()
	if err := asynq.NewInspectorFromRedisClient(rdb).PauseQueue("engagelab:abroad"); err != nil {
		t.Fatal(err)
	}
}

// What lanes says that a lane needs is what its workers' metrics say.
func TestLanesForetellWhatTheMetricsDo(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer rdb.Close()
	if err := publish(rdb, "rongcloud:community"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	rdb.ZAdd(ctx, "recallq:lane:{rongcloud:community}:calls", redis.Z{Score: float64(now.UnixMilli()), Member: "a"}, redis.Z{Score: float64(now.UnixMilli()), Member: "b"})
	for n := range 1500 {
		rdb.LPush(ctx, "asynq:{rongcloud:community}:pending", n)
	}
	b := (&program{now: time.Now}).bookOn(rdb, "")
	views, at, err := b.readLanes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	limits := views[0].published.Limits
	backlog, err := lane.New(rdb, lane.Options{Provider: "rongcloud", App: "community", Limits: limits}).Backlog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ours := views[0].through.Sub(at); (ours-backlog.Takes).Abs() > time.Minute || ours < 499*24*time.Hour {
		t.Errorf("%s, and the metrics say %s", ours, backlog.Takes)
	}
}
