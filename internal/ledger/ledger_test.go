package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/redis/go-redis/v9/maintnotifications.(*CircuitBreakerManager).cleanupLoop"))
}

func entry(batch string, seq int64, outcome string) Entry {
	now := time.Now()
	e := Entry{
		Recall: tasks.Recall{
			Provider: providers.TIMChat, App: "chat", MessageID: fmt.Sprintf("%d_1_%d", seq, now.Unix()), SentAt: now, From: "a", To: "b, c",
			Ref: "=ref", Batch: batch, Seq: seq, RecallBy: now.Add(time.Hour),
		},
		Outcome: tasks.Outcome{Outcome: outcome, Attempts: 2, FinishedAt: now},
	}
	e.ID = e.Recall.ID()
	if !tasks.Succeeded(outcome) {
		e.Outcome.Code, e.Error = "20022", "no such message"
	}
	return e
}

func record(t testing.TB, l *Ledger, e Entry) {
	t.Helper()
	if err := l.Record(t.Context(), Task{Queue: "timchat:chat", ID: e.ID}, e); err != nil {
		t.Fatal(err)
	}
}

func beginBatch(t testing.TB, rdb redis.UniversalClient, name string, inputs ...string) *tasks.Batch {
	t.Helper()
	b, err := tasks.NewProducer(rdb).OpenBatch(t.Context(), tasks.BatchOptions{Name: name, By: "ops@host", Reason: "wrong text", Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	return b
}

func TestAFailureKeepsItsRow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		e := entry("b", 7, tasks.NotFound)
		record(t, l, e)
		var got []tasks.Failure
		for f, err := range l.Failures(t.Context(), "b") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f)
		}
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		text, err := json.Marshal(got[0])
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"provider":"timchat","app":"chat","message_id":%q,"sent_at":%q,"from":"a","to":"b, c","ref":"=ref","id":%q,"outcome":"not_found",`+
			`"code":"20022","error":"no such message","attempts":2,"batch":"b","seq":7,"recall_by":%q,"finished_at":%q}`,
			e.Recall.MessageID, tasks.FormatTime(e.Recall.SentAt), e.ID, tasks.FormatTime(e.Recall.RecallBy), tasks.FormatTime(e.Outcome.FinishedAt))
		if diff := cmp.Diff(want, string(text)); diff != "" {
			t.Error(diff)
		}
		// It is input: what a row has no field for is ignored there.
		row, err := tasks.DecodeRow(text)
		if err != nil {
			t.Fatal(err)
		}
		r, _, refused := row.Recall(tasks.RowOptions{Now: time.Now()})
		if refused != nil || r.ID() != e.ID {
			t.Errorf("%+v, %v", r, refused)
		}
		// Later it succeeds.
		e.Outcome.Outcome, e.Error = tasks.Recalled, ""
		record(t, l, e)
		for f := range l.Failures(t.Context(), "b") {
			t.Errorf("%+v", f)
		}
	})
}

// What would be a hash of marks alone, where the task was removed meanwhile, would be in the way of a new one for ever. A success stays one.
func TestARecordNeedsItsTaskAndKeepsItsSuccess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		e := entry("b", 7, tasks.Recalled)
		task := Task{Queue: "timchat:chat", ID: e.ID}
		record(t, l, e)
		if err := l.Save(t.Context(), task, State{Attempts: 1}); err != nil {
			t.Fatal(err)
		}
		if n := rdb.Exists(t.Context(), task.key()).Val(); n != 0 {
			t.Fatal("there is a hash without a task")
		}
		rdb.HSet(t.Context(), task.key(), "msg", "m")
		record(t, l, e)
		late := e
		late.Outcome.Outcome, late.Error = tasks.NotFound, "no such message"
		for _, again := range []func(context.Context, Task, Entry) error{l.Record, l.RecordAgain} {
			if err := again(t.Context(), task, late); err != nil {
				t.Fatal(err)
			}
			if s, err := l.Look(t.Context(), task); err != nil || s.Outcome == nil || s.Outcome.Outcome != tasks.Recalled {
				t.Errorf("%+v, %v", s, err)
			}
		}
		rdb.HSet(t.Context(), task.key(), "result", "somebody else's")
		if s, err := l.Look(t.Context(), task); err != nil || s.Outcome != nil {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// What fails again and again, such as a batch that has no room left, does not fill the stream.
func TestWhatCannotBeRecordedIsNotStreamedAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		e := entry("b", 7, tasks.NotFound)
		task := Task{Queue: "timchat:chat", ID: e.ID}
		rdb.SAdd(t.Context(), tasks.BatchKey("b")+":s", "no string")
		if err := l.Record(t.Context(), task, e); err == nil {
			t.Fatal("it was recorded")
		}
		before := rdb.XLen(t.Context(), tasks.OutcomesKey).Val()
		for range 3 {
			if err := l.RecordAgain(t.Context(), task, e); err == nil {
				t.Fatal("it was recorded")
			}
		}
		if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != before {
			t.Errorf("%d entries, and %d before", n, before)
		}
		rdb.Del(t.Context(), tasks.BatchKey("b")+":s")
		if err := l.RecordAgain(t.Context(), task, e); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n != before+1 {
			t.Errorf("%d entries, and %d before", n, before)
		}
		if b, err := l.Batch(t.Context(), "b"); err != nil || b.Outcomes[tasks.NotFound] != 1 {
			t.Errorf("%+v, %v", b, err)
		}
	})
}

// A payload that could not be read has no identity of its own; the report tells the task's.
func TestAFailureOfABrokenPayload(t *testing.T) {
	t.Parallel()
	l := New(mini(t))
	record(t, l, Entry{
		ID: "jiguang_00", Recall: tasks.Recall{Provider: "jiguang", App: "news", Batch: "b", Seq: 3},
		Outcome: tasks.Outcome{Outcome: tasks.Rejected}, Error: "the payload cannot be read",
	})
	for f, err := range l.Failures(t.Context(), "b") {
		if err != nil || f.ID != "jiguang_00" || f.Recall.Seq != 3 {
			t.Errorf("%+v, %v", f, err)
		}
	}
	// A number that would fill Redis is not counted.
	record(t, l, Entry{ID: "jiguang_01", Recall: tasks.Recall{Batch: "b", Seq: 1 << 40}, Outcome: tasks.Outcome{Outcome: tasks.Rejected}})
	if b, err := l.Batch(t.Context(), "b"); err != nil || b.Total != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestNoBatch(t *testing.T) {
	t.Parallel()
	l := New(mini(t))
	_, err := l.Batch(t.Context(), "b")
	if !errors.Is(err, ErrNoBatch) || !errors.Is(l.Cancel(t.Context(), "b", "ops", time.Now()), ErrNoBatch) ||
		!errors.Is(l.Retry(t.Context(), nil, RetryOptions{Batch: "b"}), ErrNoBatch) {
		t.Error(err)
	}
	for f, err := range l.Failures(t.Context(), "b") {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBatchesAndCancelled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l, ctx, now := New(rdb), t.Context(), time.Now()
		for _, name := range []string{"old", "gone", "new"} {
			beginBatch(t, rdb, name, "file")
			record(t, l, entry(name, 1, tasks.Rejected))
			rdb.ZAdd(ctx, tasks.BatchesKey, redis.Z{Score: float64(len(rdb.ZRange(ctx, tasks.BatchesKey, 0, -1).Val())), Member: name})
		}
		rdb.Del(ctx, tasks.BatchKey("gone"))
		list, err := l.Batches(ctx)
		if err != nil || len(list) != 2 || list[0].Name != "new" || list[1].Name != "old" {
			t.Fatalf("%+v, %v", list, err)
		}
		if b := list[0]; b.By != "ops@host" || b.Reason != "wrong text" || now.Sub(b.CreatedAt).Abs() > time.Minute || b.Reading != 1 || b.Failed() != 1 || b.Ended(now) {
			t.Errorf("%+v", b)
		}
		if err := l.Cancel(ctx, "old", "ops", now); err != nil {
			t.Fatal(err)
		}
		if _, err := tasks.CountIn(ctx, rdb, "old", tasks.Count{Seq: 2, ID: "open", As: tasks.Open}); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Cancelled(ctx, now); err != nil || !slices.Equal(got, []string{"old"}) {
			t.Errorf("%v, %v", got, err)
		}
		if why, err := l.Cancellation(ctx, "old"); err != nil || !strings.Contains(why, "cancelled by ops at ") {
			t.Errorf("%q, %v", why, err)
		}
		// The first who cancels is the one who is told of.
		if err := l.Cancel(ctx, "old", "another", now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if b, _ := l.Batch(ctx, "old"); b.CancelledBy != "ops" {
			t.Errorf("%+v", b)
		}
		beginBatch(t, rdb, "old", "file")
		if got, err := l.Cancelled(ctx, now); err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
		if err := l.Tidy(ctx, now); err != nil {
			t.Fatal(err)
		}
		if got := rdb.ZRange(ctx, tasks.BatchesKey, 0, -1).Val(); len(got) != 2 {
			t.Errorf("%v", got)
		}
	})
}

// before is a hook that does something before the first command that is the one.
type before struct {
	dying
	is func(redis.Cmder) bool
	do func()
}

func (b *before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if b.do != nil && b.is(cmd) {
			do := b.do
			b.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

// hooked is another client of the same Redis, with a hook.
func hooked(t testing.TB, rdb *redis.Client, hook redis.Hook) *redis.Client {
	t.Helper()
	other := redis.NewClient(rdb.Options())
	t.Cleanup(func() { _ = other.Close() })
	other.AddHook(hook)
	return other
}

// A batch that is begun anew in the moment in which its name is dropped stays in the list.
func TestTidyLeavesABatchThatIsBegunMeanwhile(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		long := time.Now().Add(-10 * 24 * time.Hour)
		for _, name := range []string{"gone", "again"} {
			rdb.ZAdd(t.Context(), tasks.BatchesKey, redis.Z{Score: float64(long.UnixMilli()), Member: name})
		}
		hook := &before{
			is: func(cmd redis.Cmder) bool { return slices.Contains(cmd.Args(), any("again")) },
			do: func() { beginBatch(t, rdb, "again") },
		}
		if err := New(hooked(t, rdb, hook)).Tidy(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := rdb.ZRange(t.Context(), tasks.BatchesKey, 0, -1).Val(); !slices.Equal(got, []string{"again"}) || hook.do != nil {
			t.Errorf("%v", got)
		}
	})
}

// What fails after a run of Retry has begun is not tried by that run: one that fails at once would be tried without an end.
func TestRetryLeavesWhatFailsMeanwhile(t *testing.T) {
	t.Parallel()
	rdb := mini(t)
	publishLane(t, rdb)
	sentAt := time.Now()
	b := beginBatch(t, rdb, "b")
	fail := func(id string) {
		t.Helper()
		r := tasks.Recall{Provider: providers.Jiguang, App: "app", MessageID: id, SentAt: sentAt}
		res, err := b.Enqueue(t.Context(), r)
		if err != nil || res.Seq == 0 {
			t.Fatal(res, err)
		}
		r.Batch, r.Seq, r.RecallBy = "b", res.Seq, res.RecallBy
		e := Entry{ID: res.ID, Recall: r, Outcome: tasks.Outcome{Outcome: tasks.NotFound, FinishedAt: time.Now()}}
		if err := New(rdb).Record(t.Context(), Task{res.Queue, res.ID}, e); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 8 { // a block of numbers
		fail(fmt.Sprint("before", i))
	}
	hook := &before{is: func(cmd redis.Cmder) bool { return cmd.Name() == "hscan" }, do: func() { fail("meanwhile") }}
	var tried []string
	err := New(hooked(t, rdb, hook)).Retry(t.Context(), tasks.NewProducer(rdb), RetryOptions{Batch: "b", Each: func(f tasks.Failure, _ tasks.Result, err error) {
		if err != nil {
			t.Error(err)
		}
		tried = append(tried, f.Recall.MessageID)
	}})
	if err != nil || len(tried) != 8 || slices.Contains(tried, "meanwhile") || hook.do != nil {
		t.Errorf("%v, %v", tried, err)
	}
}

// The input of a cancelled batch will not go on: whoever runs it again opens the batch again.
func TestACancelledBatchEndsWhileAnInputIsUnread(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l, now := New(rdb), time.Now()
		beginBatch(t, rdb, "b", "export.csv", "more\x1b[31m\n.csv")
		count := func(as string) {
			t.Helper()
			if _, err := tasks.CountIn(t.Context(), rdb, "b", tasks.Count{Seq: 1, ID: "x", As: as}); err != nil {
				t.Fatal(err)
			}
		}
		ended := func(want bool) {
			t.Helper()
			if b, err := l.Batch(t.Context(), "b"); err != nil || b.Ended(now) != want || b.Reading != 2 {
				t.Errorf("ended %v, want %v; %+v, %v", b.Ended(now), want, b, err)
			}
		}
		listed := func(at time.Time, want ...string) {
			t.Helper()
			if got, err := l.Cancelled(t.Context(), at); err != nil || !slices.Equal(got, want) {
				t.Errorf("the cancelled batches with something open are %v, %v; want %v", got, err, want)
			}
		}
		count(tasks.Open)
		if err := l.Cancel(t.Context(), "b", "ops", now); err != nil {
			t.Fatal(err)
		}
		ended(false)
		listed(now, "b")
		count(tasks.Cancelled)
		ended(true)
		listed(now)
		// Another row, by a producer that has not noticed yet; and long after its window has closed.
		late := tasks.Count{Seq: 2, ID: "y", As: tasks.Open, RecallBy: now.Add(time.Minute)}
		if _, err := tasks.CountIn(t.Context(), rdb, "b", late); err != nil {
			t.Fatal(err)
		}
		ended(false)
		listed(now, "b")
		listed(now.Add(lostAfter + 2*time.Minute))
		late.As = tasks.Cancelled
		if _, err := tasks.CountIn(t.Context(), rdb, "b", late); err != nil {
			t.Fatal(err)
		}
		listed(now)
		if names, err := l.ReadingInputs(t.Context(), "b"); err != nil || !slices.Equal(names, []string{"export.csv", "more [31m .csv"}) {
			t.Errorf("%q, %v", names, err)
		}
		b := beginBatch(t, rdb, "b", "export.csv")
		ended(false)
		if err := b.Done(t.Context(), "export.csv"); err != nil {
			t.Fatal(err)
		}
		if names, err := l.ReadingInputs(t.Context(), "b"); err != nil || len(names) != 1 {
			t.Errorf("%q, %v", names, err)
		}
	})
}

func TestTextsOfABatchAreForPeople(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		const odd = "\x1b]0;x\x07a\x1b[2J\nb \u202egpj.exe\u2066"
		fields := []any{"total", 1, "created_by", odd, "reason", odd, "cancelled_by", odd, "cancelled_at", "2026-11-20T10:00:00.000Z"}
		if err := rdb.HSet(t.Context(), tasks.BatchKey("b"), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		l := New(rdb)
		b, err := l.Batch(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		refused := l.Retry(t.Context(), tasks.NewProducer(rdb), RetryOptions{Batch: "b", Outcome: tasks.Rejected})
		if e, is := errors.AsType[*CancelledError](refused); !is || e.Batch != "b" {
			t.Fatal(refused)
		}
		// What to type is the command line's to say.
		if strings.Contains(refused.Error(), "enqueue retry") || strings.Contains(refused.Error(), "--") {
			t.Errorf("%q", refused)
		}
		why, _ := l.Cancellation(t.Context(), "b")
		for _, text := range []string{b.By, b.Reason, b.CancelledBy, why, refused.Error()} {
			if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%q in %q", text[i:i+1], text)
			}
		}
		if b.Fields["created_by"] != odd {
			t.Errorf("%q", b.Fields["created_by"])
		}
	})
}

func TestWhatIsOpenLongAfterIsLost(t *testing.T) {
	t.Parallel()
	l := New(mini(t))
	by := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	c := tasks.Count{Seq: 1, ID: "x", As: tasks.Open, RecallBy: by}
	if _, err := tasks.CountIn(t.Context(), l.rdb, "b", c); err != nil {
		t.Fatal(err)
	}
	b, err := l.Batch(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int64{0: 0, time.Hour - time.Millisecond: 0, time.Hour: 1} {
		if now := by.Add(after); b.Lost(now) != want || b.Ended(now) != (want == 1) {
			t.Errorf("%s after its last recall_by: lost %d", after, b.Lost(now))
		}
	}
}

func TestPruneInSmallSteps(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		ctx, now := t.Context(), time.Now()
		const queue, n = "jiguang:news", 250
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range n + 1 {
				at := now.Add(-keepArchived - time.Hour)
				if i == n {
					at = now.Add(-keepArchived + time.Hour)
				}
				id := strconv.Itoa(i)
				pipe.HSet(ctx, tasks.TaskKey(queue, id), "state", "archived")
				pipe.ZAdd(ctx, "asynq:{"+queue+"}:archived", redis.Z{Score: float64(at.Unix()), Member: id})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := New(rdb).Prune(ctx, queue, now); err != nil || got != n {
			t.Errorf("%d, %v", got, err)
		}
		if left := rdb.Keys(ctx, tasks.TaskKey(queue, "*")).Val(); len(left) != 1 {
			t.Errorf("%v", left)
		}
	})
}

func reader(t testing.TB, rdb redis.UniversalClient, after string) *Reader {
	t.Helper()
	r, err := New(rdb).Reader(after)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// next reads a page, and says in short what is on it.
func (r *Reader) next(t testing.TB) string {
	t.Helper()
	page, err := r.Next(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	switch m := page.Missed; {
	case m == nil:
	case m.Count > 0:
		parts = append(parts, fmt.Sprintf("missed %d", m.Count))
	case m.Sure:
		parts = append(parts, "missed some")
	default:
		parts = append(parts, "missed some, perhaps")
	}
	for _, e := range page.Events {
		parts = append(parts, strconv.FormatInt(e.Seq, 10))
	}
	return strings.Join(parts, " ")
}

// say adds entries to the stream.
func say(t testing.TB, rdb *redis.Client, seqs ...int) {
	t.Helper()
	for _, seq := range seqs {
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: []any{"id", "x", "seq", seq}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func trim(t testing.TB, rdb *redis.Client, keep int64) {
	t.Helper()
	if err := rdb.XTrimMaxLen(t.Context(), tasks.OutcomesKey, keep).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestTheStreamIsRead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		if got := reader(t, rdb, FromStart).next(t); got != "" {
			t.Errorf("%s", got)
		}
		for seq := range int64(4) {
			record(t, l, entry("b", seq+1, tasks.NotFound))
		}
		page, err := reader(t, rdb, FromStart).Next(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		all := page.Events
		if last := all[len(all)-1]; len(all) != 4 || last.Seq != 4 || last.Code != "20022" || last.Attempts != 2 || last.Ref != "=ref" || last.SentAt.IsZero() {
			t.Fatalf("%+v", all)
		}
		if got := reader(t, rdb, all[1].StreamID).next(t); got != "3 4" {
			t.Errorf("%s", got)
		}
		if got := reader(t, rdb, FromNow).next(t); got != "" {
			t.Errorf("%s", got)
		}
		if _, err := l.Reader("yesterday"); err == nil || !strings.Contains(err.Error(), "yesterday") {
			t.Error(err)
		}
	})
}

// Who comes with a place that is trimmed itself cannot know whether others were behind it.
func TestAReaderWithAPlaceThatIsGone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		say(t, rdb, 1, 2, 3)
		page, _ := reader(t, rdb, FromStart).Next(t.Context(), false)
		place := func(i int) *Reader { return reader(t, rdb, page.Events[i].StreamID) }
		trim(t, rdb, 1)
		for i, want := range []string{"missed some, perhaps 3", "missed some, perhaps 3", ""} {
			if got := place(i).next(t); got != want {
				t.Errorf("after %d: %q, want %q", i+1, got, want)
			}
		}
		r := place(0)
		r.next(t)
		say(t, rdb, 4)
		if got := r.next(t); got != "4" {
			t.Errorf("it is said again: %q", got)
		}
		trim(t, rdb, 0)
		// The stream is empty, and remembers the last place that it gave.
		for i, want := range []string{"missed some", "missed some", "missed some"} {
			r := place(i)
			if got := r.next(t); got != want {
				t.Errorf("of an empty stream, after %d: %q, want %q", i+1, got, want)
			}
			if got := r.next(t); got != "" {
				t.Errorf("it is said again: %q", got)
			}
		}
		if got := r.next(t); got != "" {
			t.Errorf("all was read, and then trimmed: %q", got)
		}
		rdb.Del(t.Context(), tasks.OutcomesKey)
		if got := place(0).next(t); got != "missed some, perhaps" {
			t.Errorf("without a stream: %q", got)
		}
	})
}

// Who was there all the time knows, from Redis 7 on.
func TestAFollowerKnowsWhatItMissed(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	say(t, rdb, 1, 2)
	r := reader(t, rdb, FromStart)
	step := func(what, want string) {
		t.Helper()
		if got := r.next(t); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	step("at first", "1 2")
	trim(t, rdb, 0)
	step("all was read", "")
	say(t, rdb, 3)
	step("the next after all was trimmed", "3")
	say(t, rdb, 4)
	trim(t, rdb, 1)
	step("the last one read is trimmed", "4")
	say(t, rdb, 5, 6, 7)
	trim(t, rdb, 1)
	step("two are trimmed unread", "missed 2 7")
	say(t, rdb, 8)
	trim(t, rdb, 0)
	step("one is trimmed, and none is left", "missed 1")
	step("it is said once", "")
	say(t, rdb, 9)
	step("and goes on", "9")
	trim(t, rdb, 0)
	now := reader(t, rdb, FromNow)
	say(t, rdb, 10)
	step("after", "10")
	if got := now.next(t); got != "" { // it begins with its first question
		t.Errorf("%s", got)
	}
	say(t, rdb, 11, 12)
	trim(t, rdb, 1)
	if got := now.next(t); got != "missed 1 12" {
		t.Errorf("from now on: %s", got)
	}
	rdb.Del(t.Context(), tasks.OutcomesKey)
	say(t, rdb, 20)
	step("the stream was begun anew", "missed some, perhaps 20")
}

// What programs read is the same, byte for byte, from one version to the next.
func TestAnEventAsJSON(t *testing.T) {
	t.Parallel()
	rdb := mini(t)
	l := New(rdb)
	at := time.Date(2026, 11, 20, 1, 55, 10, 0, time.UTC)
	whole := Event{
		ID: "timchat_1", Provider: "timchat", App: "chat", MessageID: "1_2_3", Ref: "<r>", Outcome: tasks.NotFound, Code: "20022", Error: "why",
		Attempts: 2, Batch: "b", Seq: 7, SentAt: at, FinishedAt: at.Add(time.Second),
	}
	refused := Event{ID: "5-0", Outcome: "refused", Error: `row "x" is no JSON object`, FinishedAt: at, Field: "row", Reason: "is no JSON object"}
	if err := l.Tell(t.Context(), whole, Event{ID: "1", Provider: "p", App: "a", MessageID: "m", Outcome: "recalled"}, refused); err != nil {
		t.Fatal(err)
	}
	r, err := l.Reader(FromStart)
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.Next(t.Context(), false)
	if err != nil || len(page.Events) != 3 {
		t.Fatalf("%+v, %v", page, err)
	}
	for i, want := range []string{
		`{"stream_id":"1-0","id":"timchat_1","provider":"timchat","app":"chat","message_id":"1_2_3","ref":"\u003cr\u003e","outcome":"not_found","code":"20022","error":"why",` +
			`"attempts":2,"batch":"b","seq":7,"sent_at":"2026-11-20T01:55:10.000Z","finished_at":"2026-11-20T01:55:11.000Z"}`,
		`{"stream_id":"1-0","id":"1","provider":"p","app":"a","message_id":"m","outcome":"recalled","code":"","attempts":0}`,
		`{"stream_id":"1-0","id":"5-0","provider":"","app":"","message_id":"","outcome":"refused","code":"","error":"row \"x\" is no JSON object",` +
			`"attempts":0,"field":"row","reason":"is no JSON object","finished_at":"2026-11-20T01:55:10.000Z"}`,
	} {
		page.Events[i].StreamID = "1-0"
		got, err := json.Marshal(page.Events[i])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}

// Trimming may come between the reading and the look at the stream: what was read is not missed.
func TestTrimmedWhileItIsRead(t *testing.T) {
	t.Parallel()
	read := []redis.XMessage{{ID: "2-0"}}
	r := &Reader{after: "1-0", added: 1}
	m := r.compare(standing{exists: true, first: "5-0", last: "5-0", length: 1, added: 5}, read)
	if m == nil || m.Count != 2 || !m.Sure || r.added != 4 {
		t.Errorf("%+v, added %d", m, r.added)
	}
	r = &Reader{after: "1-0", added: 1}
	if m := r.compare(standing{exists: true, last: "2-0", added: 2}, read); m != nil || r.added != 2 {
		t.Errorf("%+v, added %d", m, r.added)
	}
}

// A user of Redis who may not ask about the stream, as those of earlier versions of the docs, reads it all the same.
func TestAReaderWithoutRightsToAskReads(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Client(t)
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "reader", "reset", "on", ">pw", "~*", "-@all", "+xread", "+xrange", "+xrevrange").Err(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "reader", Password: "pw", DisableIdentity: true})
	defer rdb.Close()
	r := reader(t, rdb, FromNow)
	if got := r.next(t); got != "" {
		t.Errorf("%q", got)
	}
	say(t, admin, 1, 2)
	if got := r.next(t); got != "1 2" {
		t.Errorf("%q", got)
	}
	say(t, admin, 3)
	trim(t, admin, 1)
	if got := r.next(t); got != "missed some, perhaps 3" {
		t.Errorf("%q", got)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		r := reader(t, rdb, FromStart)
		pages := make(chan Page)
		go func() {
			page, err := r.Next(t.Context(), true)
			for err == nil && len(page.Events) == 0 {
				page, err = r.Next(t.Context(), true)
			}
			if err != nil {
				t.Error(err)
			}
			pages <- page
		}()
		record(t, New(rdb), entry("b", 2, tasks.Recalled))
		if page := <-pages; len(page.Events) != 1 || page.Events[0].Seq != 2 || page.Missed != nil {
			t.Errorf("%+v", page)
		}
	})
}

// asynq keeps 10,000 archived tasks of a queue. The batch keeps every failure.
func TestEveryFailureIsKept(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendonly", "no").Client(t)
	const n = 30_000
	var counts []tasks.Count
	for seq := range int64(n) {
		e := entry("b", seq+1, tasks.Rejected)
		if counts = append(counts, e.count()); len(counts) == 500 {
			if _, err := tasks.CountIn(t.Context(), rdb, "b", counts...); err != nil {
				t.Fatal(err)
			}
			counts = nil
		}
	}
	seen := map[int64]bool{}
	for f, err := range New(rdb).Failures(t.Context(), "b") {
		if err != nil {
			t.Fatal(err)
		}
		seen[f.Recall.Seq] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d failures", len(seen), n)
	}
}

// Outcomes are kept for a day. Redis removes old entries by the hundred, so that some stay a little longer, and none goes too early.
func TestOutcomesAreKeptForADay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		now := time.Now()
		add := func(n int, age time.Duration) {
			for i := range n {
				id := fmt.Sprintf("%d-%d", now.Add(-age).UnixMilli(), i)
				if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: tasks.OutcomesKey, ID: id, Values: []any{"id", i}}).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		add(250, 24*time.Hour+time.Minute)
		add(20, 24*time.Hour-time.Minute)
		if err := New(rdb).Trim(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(t.Context(), tasks.OutcomesKey).Val(); n < 20 || n > 120 {
			t.Errorf("%d entries are left, want the 20 of today and less than a hundred", n)
		}
	})
}

// Counting costs at most 2 bytes a recall in Redis, for few and for many.
func TestMemoryOfCounting(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendonly", "no").Client(t)
	for _, n := range []int64{20_000, 300_000} {
		name := strconv.FormatInt(n, 10)
		used := func() int64 {
			var sum int64
			for _, key := range rdb.Keys(t.Context(), tasks.BatchKey(name)+"*").Val() {
				sum += rdb.MemoryUsage(t.Context(), key).Val()
			}
			return sum
		}
		for _, as := range []string{tasks.Open, tasks.Recalled} {
			counts := make([]tasks.Count, 0, 1000)
			for seq := int64(1); seq <= n; seq++ {
				counts = append(counts, tasks.Count{Seq: seq, ID: "x", As: as, RecallBy: time.Now().Add(time.Hour)})
				if len(counts) < cap(counts) && seq < n {
					continue
				}
				if _, err := tasks.CountIn(t.Context(), rdb, name, counts...); err != nil {
					t.Fatal(err)
				}
				counts = counts[:0]
			}
		}
		if b, err := New(rdb).Batch(t.Context(), name); err != nil || b.Outcomes[tasks.Recalled] != n || b.Open != 0 {
			t.Errorf("%+v, %v", b, err)
		}
		t.Logf("%d recalls: %.2f bytes each", n, float64(used())/float64(n))
		if used() > 2*n {
			t.Errorf("%d bytes for %d recalls", used(), n)
		}
	}
}

// On a cluster every script keeps to one slot.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	if err := s.Client(t).Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}, MaxRedirects: 8})
	t.Cleanup(func() { _ = rdb.Close() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if info, err := rdb.ClusterInfo(t.Context()).Result(); err == nil && strings.Contains(info, "cluster_state:ok") {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(info, err)
		}
	}
	publishLane(t, rdb)
	l, p := New(rdb), tasks.NewProducer(rdb)
	b := beginBatch(t, rdb, "b", "file")
	for i := range 50 {
		r := tasks.Recall{Provider: providers.Jiguang, App: "app", MessageID: strconv.Itoa(i), SentAt: time.Now()}
		res, err := b.Enqueue(t.Context(), r)
		if err != nil || res.Status != tasks.Enqueued {
			t.Fatalf("%+v, %v", res, err)
		}
		r.Batch, r.Seq, r.RecallBy = "b", res.Seq, res.RecallBy
		e := Entry{ID: res.ID, Recall: r, Outcome: tasks.Outcome{Outcome: tasks.Rejected, FinishedAt: time.Now()}, Error: "no"}
		if err := l.Record(t.Context(), Task{res.Queue, res.ID}, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Done(t.Context(), "file"); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Batch(t.Context(), "b"); err != nil || got.Outcomes[tasks.Rejected] != 50 || !got.Ended(time.Now()) {
		t.Errorf("%+v, %v", got, err)
	}
	n := 0
	err := l.Retry(t.Context(), p, RetryOptions{Batch: "b", Each: func(tasks.Failure, tasks.Result, error) { n++ }})
	if err != nil || n != 50 {
		t.Errorf("%d, %v", n, err)
	}
	if got, err := l.Batches(t.Context()); err != nil || len(got) != 1 || got[0].Open != 50 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := errors.Join(l.Cancel(t.Context(), "b", "ops", time.Now()), l.Tidy(t.Context(), time.Now())); err != nil {
		t.Error(err)
	}
	if _, err := l.Prune(t.Context(), "jiguang:app", time.Now()); err != nil {
		t.Error(err)
	}
}

// What others have written may name a batch that no slot of a cluster has: how it ended is written all the same.
func TestAPayloadWithABatchThatIsNoneEndsOnACluster(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, s := range redistest.StartCluster(t) {
		addrs = append(addrs, s.Addr)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = rdb.Close() })
	for _, v := range []string{`"v":1`, `"v":0`} {
		r, err := tasks.Decode([]byte(`{"provider":"jiguang","app":"app","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z","batch":"}x","seq":1,` + v + `}`))
		if err == nil {
			t.Fatal("it is taken")
		}
		e := Entry{ID: "jiguang_1", Recall: r, Outcome: tasks.Outcome{Outcome: tasks.Rejected, FinishedAt: time.Now()}, Error: err.Error()}
		if err := New(rdb).Record(t.Context(), Task{"jiguang:app", e.ID}, e); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkRecord is what a worker writes at the end of each recall.
func BenchmarkRecord(b *testing.B) {
	rdb := redistest.Start(b, "--appendonly", "no").Client(b)
	l := New(rdb)
	var seq int64
	b.SetParallelism(32)
	e := entry("b", 1, tasks.Recalled)
	next := make(chan int64, 1024)
	go func() {
		for range b.N {
			seq++
			next <- seq
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e := e
			e.Recall.Seq = <-next
			record(b, l, e)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
