package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"github.com/rivo/uniseg"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// oneOpen makes a batch b with one recall that is open.
func oneOpen(t *testing.T, rdb *redis.Client) {
	t.Helper()
	b, err := tasks.NewProducer(rdb).OpenBatch(ctx, tasks.BatchOptions{Name: "b", By: "alice", Inputs: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	r := tasks.Recall{Provider: "engagelab", MessageID: "1", SentAt: time.Now().Add(-time.Hour)}
	if _, err := b.Enqueue(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Done(ctx, "x"), b.Close(ctx)); err != nil {
		t.Fatal(err)
	}
}

func watchOne(t *testing.T, server *miniredis.Miniredis, patience time.Duration) *running {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	if err := publish(rdb, "engagelab:abroad"); err != nil {
		t.Fatal(err)
	}
	oneOpen(t, rdb)
	s := start(t, server.Addr(), patience, "watch", "b")
	s.until("the first line", func() bool { return strings.Contains(s.stdout.String(), "b: 0 of 1 ended") })
	return s
}

func TestWatchInterrupted(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	s := watchOne(t, miniredis.RunT(t), time.Minute)
	s.interrupt()
	if code := s.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if want := "enqueue: stopped watching, the batch goes on; to look again: enqueue watch b"; !s.says(want)() {
		t.Errorf("%q is missing in %q", want, s.stderr.String())
	}
	s.batchHas("b", map[string]string{"total": "1", "cancelled_at": ""})
}

func TestWatchWaitsForRedis(t *testing.T) {
	server := miniredis.RunT(t)
	s := watchOne(t, server, time.Minute)
	server.Close()
	s.until("the message", func() bool { return strings.Contains(s.stdout.String(), "; waiting up to 1m for it\n") })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	s.until("the return", func() bool { return strings.Contains(s.stdout.String(), "Redis answers again\n") })
	s.interrupt()
	s.exit()
}

func TestWatchGivesRedisUp(t *testing.T) {
	server := miniredis.RunT(t)
	s := watchOne(t, server, 300*time.Millisecond)
	server.Close()
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	if want := "no longer watched, to look again: enqueue watch b\n"; !s.says(want)() {
		t.Errorf("%q is missing in %q", want, s.stderr.String())
	}
}

func TestWatchedBatchIsRemoved(t *testing.T) {
	server := miniredis.RunT(t)
	s := watchOne(t, server, time.Minute)
	server.Del(tasks.BatchKey("b"))
	if code := s.exit(); code != exitFailure || !s.says("the batch b is gone")() {
		t.Errorf("exit code %d: %s", code, s.stderr.String())
	}
}

// Somebody cancels a batch whose file is still being read: the rest of it is not enqueued.
func TestACancelledBatchStopsItsEnqueue(t *testing.T) {
	server := miniredis.RunT(t)
	s := start(t, server.Addr(), time.Minute, append(bulkArgs, "--batch", "b")...)
	s.feed(0, 5_000)
	s.until("some recalls queued", func() bool { return s.queued() >= 500 })
	if err := ledger.New(s.rdb).Cancel(ctx, "b", "alice", time.Now()); err != nil {
		t.Fatal(err)
	}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for from := 5_000; from < 1_000_000; from += 1000 {
			s.feed(from, from+1000)
		}
	})
	defer feeding.Wait()
	if code := s.exit(); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	if !s.says("the batch b was cancelled by alice at ")() || !s.says("to go on after all, which withdraws the cancellation: enqueue --file -")() {
		t.Errorf("%s", s.stderr.String())
	}
	if _, enqueued, _, _ := s.counts(); enqueued != s.queued() || enqueued > 900_000 {
		t.Errorf("enqueued %d, in the queue %d", enqueued, s.queued())
	}
	_ = s.stdin.Close()
}

// Who follows from now on and is interrupted before anything came goes on from there, also when something has come meanwhile.
func TestFollowingFromNowCanBeResumed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	for _, entries := range []int{0, 1} {
		place := "0"
		for range entries {
			place = rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: []string{"id", "x"}}).Val()
		}
		s := launch(t, server.Addr, time.Minute, "outcomes", "--follow", "--after", "now")
		s.until("it waits", func() bool { return strings.Contains(rdb.Info(ctx, "clients").Val(), "blocked_clients:1") })
		s.interrupt()
		s.exit()
		if want := "enqueue: interrupted; to go on from here: enqueue outcomes --follow --after " + place + "\n"; s.stderr.String() != want || s.stdout.String() != "" {
			t.Errorf("%q, want %q", s.stderr.String(), want)
		}
	}
}

// awkward are texts that a spreadsheet or a CSV reader may not leave as they are.
var awkward = []string{
	"=SUM(A1)", "+8613800000000", "-order", "@all", "'=x", "''", "a,b", `say "no"`, "two\nlines", " around ", "价格错误", "1.8E+09", "TRUE", ";", "\t", "#",
}

// account is a text without what no account may hold.
func account(text string) string {
	return strings.NewReplacer("\n", "", "\t", "tab", "1.8E", "E").Replace(text)
}

// failures are failed recalls of every provider with awkward texts in every field.
func failures() []tasks.Failure {
	sent := time.Now().Add(-time.Hour).Truncate(time.Millisecond).UTC()
	var list []tasks.Failure
	for i, text := range awkward {
		id := fmt.Sprintf("id%d", i)
		chat := fmt.Sprintf("%d_1_%d", i, sent.Unix())
		uid := fmt.Sprintf("BC52-ESJ0-022O-00%02d", i)
		for _, r := range []tasks.Recall{
			{Provider: "jiguang", MessageID: id, Ref: text},
			{Provider: "engagelab", MessageID: "-" + id, Ref: text},
			{Provider: "timpush", MessageID: id, OfflinePushTitle: text, OfflinePushDesc: text},
			{Provider: "timchat", MessageID: chat, From: account(text), To: "'" + account(text)},
			{Provider: "rongcloud", MessageID: uid, From: "a", Extra: text, IsAdmin: true, DisableUpdateLastMsg: true},
		} {
			r.V, r.App, r.SentAt = 1, "app", sent
			r.Batch, r.Seq, r.RecallBy = "b", int64(len(list)+1), sent.Add(24*time.Hour)
			list = append(list, tasks.Failure{
				Recall: r, ID: r.ID(), Error: text,
				Outcome: tasks.Outcome{Outcome: tasks.Rejected, Code: "=1", Attempts: 1, FinishedAt: sent},
			})
		}
	}
	return list
}

func TestAReportIsItsRowsAgain(t *testing.T) {
	t.Parallel()
	for _, form := range []string{formCSV, formNDJSON} {
		var text bytes.Buffer
		out := bufio.NewWriter(&text)
		write := writeNDJSON(out)
		if form == formCSV {
			write = writeCSV(out)
		}
		list := failures()
		for _, f := range list {
			if err := write(f); err != nil {
				t.Fatal(err)
			}
		}
		_ = out.Flush()
		r, err := input.NewReader("report."+form, &text, input.Options{Format: input.Auto, Warn: func(w string) { t.Error(w) }})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			item, err := r.Next()
			if err != nil || item.Fault != nil {
				t.Fatalf("%s: %+v: %v %+v", form, f.Recall, err, item.Fault)
			}
			got, _, refused := item.Row.Recall(tasks.RowOptions{})
			if refused != nil {
				t.Fatalf("%s: %s", form, sayFieldError(refused))
			}
			if diff := cmp.Diff(f.Recall, got, cmpopts.IgnoreFields(tasks.Recall{}, "V", "Batch", "Seq", "RecallBy")); diff != "" {
				t.Errorf("%s: %s", form, diff)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: more rows than failures: %v", form, err)
		}
	}
}

func TestNoCellOfAReportIsAFormula(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	out := bufio.NewWriter(&text)
	write := writeCSV(out)
	for _, f := range failures() {
		if err := write(f); err != nil {
			t.Fatal(err)
		}
	}
	_ = out.Flush()
	for _, formula := range []string{",=", ",+", ",-", ",@", "\n=", `,"=`, `,"+`, `,"-`, `,"@`} {
		if strings.Contains(text.String(), formula) {
			t.Errorf("%q is in the report:\n%s", formula, text.String())
		}
	}
}

// meter counts lines and looks at the heap on the way.
type meter struct {
	lines int
	most  uint64
	next  int
}

func (m *meter) Write(p []byte) (int, error) {
	m.lines += bytes.Count(p, []byte("\n"))
	if m.lines >= m.next {
		m.next += 2_000
		m.most = max(m.most, heap())
	}
	return len(p), nil
}

func TestAReportOfManyFailuresTakesNoMoreMemoryThanOneOfAFew(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	most := func(n int) uint64 {
		name := fmt.Sprint("batch", n)
		for from := 0; from < n; from += 500 {
			var counts []tasks.Count
			for i := from; i < from+500; i++ {
				r := tasks.Recall{Provider: "engagelab", App: "a", MessageID: fmt.Sprint("m", i), Ref: strings.Repeat("r", 200), SentAt: time.Now(), RecallBy: time.Now().Add(time.Hour)}
				f := &tasks.Failure{Recall: r, ID: r.ID(), Outcome: tasks.Outcome{Outcome: tasks.Rejected}, Error: "no"}
				counts = append(counts, tasks.Count{Seq: int64(i + 1), ID: f.ID, As: tasks.Rejected, Failure: f})
			}
			if _, err := tasks.CountIn(ctx, rdb, name, counts...); err != nil {
				t.Fatal(err)
			}
		}
		var peak uint64
		for _, form := range []string{formCSV, formNDJSON, "table"} {
			out, messages := &meter{}, &bytes.Buffer{}
			code := run(ctx, []string{"report", name, "-o", form}, func(name string) (string, bool) {
				return server.URL, name == redisURLEnv
			}, strings.NewReader(""), out, messages)
			if code != exitOK {
				t.Fatalf("exit code %d\n%s", code, messages)
			}
			if want := map[string]int{formCSV: n + 1, formNDJSON: n}[form]; want > 0 && out.lines != want {
				t.Errorf("%s: %d lines, want %d", form, out.lines, want)
			}
			peak = max(peak, out.most)
		}
		return peak
	}
	few := most(2_000)
	if many := most(12_000); many > few+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", few, many)
	}
}

func TestAFailureThatRedisShowsTwiceIsReportedOnce(t *testing.T) {
	t.Parallel()
	list := failures()
	var got []tasks.Failure
	for f := range failuresOnce(func(yield func(tasks.Failure, error) bool) {
		for _, f := range append(slices.Clone(list), list...) {
			if !yield(f, nil) {
				return
			}
		}
	}) {
		got = append(got, f)
	}
	if len(got) != len(list) {
		t.Errorf("%d failures, want %d", len(got), len(list))
	}
}

func TestReasonsWithOneCauseAreOneGroup(t *testing.T) {
	t.Parallel()
	g := &groups{}
	for i, reason := range []string{
		"the recall window closed at 2026-11-20T12:07:35.551Z; its lane was closed (limit)",
		"the recall window closed at 2026-11-21T02:00:00.000Z; its lane was closed (limit)",
		"the lane opens in 56m12s (limit), the recall window closes in 3h0m1s",
		"the lane opens in 1h2m3s (limit), the recall window closes in 50m2s",
	} {
		g.add(tasks.Failure{
			Recall:  tasks.Recall{Provider: "rongcloud", MessageID: fmt.Sprint("message", i)},
			Outcome: tasks.Outcome{Outcome: tasks.Expired}, Error: reason,
		})
	}
	if len(g.list) != 2 {
		t.Errorf("%d groups, want 2", len(g.list))
	}
	for i := range 2 * mostGroups {
		g.add(tasks.Failure{Outcome: tasks.Outcome{Outcome: tasks.Rejected}, Error: "reason " + strings.Repeat("x", i)})
	}
	if len(g.list) != mostGroups || g.other != mostGroups+2 {
		t.Errorf("%d groups and %d beside them", len(g.list), g.other)
	}
}

func TestNearestNames(t *testing.T) {
	t.Parallel()
	names := []string{"incident-41", "incident-14", "20261120-113348-2t2d", "lost"}
	for name, want := range map[string][]string{
		"incident-42":   {"incident-41", "incident-14"},
		"INCIDENT-41":   {"incident-41", "incident-14"},
		"113348":        {"20261120-113348-2t2d"},
		"loose":         {"lost"},
		"something":     {},
		"incident":      {"incident-41", "incident-14"},
		"incidnet-41":   {"incident-41"},
		"incidents-141": {"incident-41", "incident-14"},
	} {
		if diff := cmp.Diff(want, nearest(name, names, 3)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// night is a view of an incident at work.
func night() view {
	now := time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	chat := tasks.Lane{Provider: "timchat", App: "chat", Limits: []providers.Limit{{Calls: 100, Per: time.Second}}, LastSeen: now}
	push := tasks.Lane{Provider: "timpush", App: "chat", Limits: []providers.Limit{{Calls: 1, Per: time.Second}}, LastSeen: now}
	slow := tasks.Lane{Provider: "rongcloud", App: "community", Limits: []providers.Limit{{Calls: 2, Per: time.Hour}}, LastSeen: now}
	idle := tasks.Lane{Provider: "jiguang", App: "news", LastSeen: now.Add(-3 * time.Minute)}
	v := view{
		now: now, rate: 98.2,
		batch: ledger.Batch{
			Name: "incident-41", By: "alice@host", Reason: "wrong price 价格错误", CreatedAt: now.Add(-12 * time.Minute),
			Inputs: 3, Reading: 1, LastRecallBy: now.Add(22 * time.Hour), Total: 1_030_010, Duplicate: 10, Open: 1_011_064,
			Outcomes: map[string]int64{tasks.Recalled: 18_900, tasks.AlreadyRecalled: 2, tasks.NotFound: 30, tasks.Rejected: 4},
		},
	}
	v.lanes = []laneView{
		viewOf(chat, lane.Status{Bulk: lane.Queue{Name: "timchat:chat:bulk", Pending: 1_011_044}}, now),
		viewOf(push, lane.Status{
			Bulk: lane.Queue{Name: "timpush:chat:bulk", Pending: 12, Paused: true},
			Hold: lane.Hold{Reason: "credentials", Says: "credentials (70009): made with another app's key", Until: now.Add(23 * time.Second)},
		}, now),
		viewOf(slow, lane.Status{Urgent: lane.Queue{Pending: 3, Active: 1}, Made: []time.Time{now.Add(-18 * time.Minute), now.Add(-20 * time.Minute)}}, now),
		viewOf(idle, lane.Status{}, now),
	}
	return v
}

func paintedText(v view, width, height int) string {
	s := &screen{picture: true}
	var b strings.Builder
	for _, l := range s.paint(v, width, height) {
		text, _ := l.fit(width-1, false)
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return b.String()
}

const nightPicture = `batch incident-41: wrong price 价格错误
alice@host, 12m ago; 3 inputs, 1 not read to its end; windows close in 22h

  [#+=?!................................................................]    1%

  # recalled      18,900   x expired            0   - cancelled          0
  + already            2   ? not_found         30   . open       1,011,064
  = duplicate         10   ! rejected           4     total      1,030,010

  98.2 a second; 2h 48m left at the lanes' limits, without timpush:chat, which
  is held

  timpush:chat         held, next try 02:00:23Z (23s); bulk paused; 12 waiting;
    credentials (70009): made with another app's key; enqueue resume --provider
    timpush --app chat
  rongcloud:community  out of slots until 02:40:00Z (40m); 3 waiting
  jiguang:news         no worker seen for 3m; 0 waiting
  timchat:chat         open; 1,011,044 waiting; 100 per second
`

func TestThePicture(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(nightPicture, paintedText(night(), 80, 24)); diff != "" {
		t.Errorf("the picture (- want, + have):\n%s", diff)
	}
	for _, width := range []int{20, 40, 80, 120} {
		for line := range strings.SplitSeq(paintedText(night(), width, 24), "\n") {
			if w := uniseg.StringWidth(line); w >= width {
				t.Errorf("%d of %d columns: %q", w, width, line)
			}
		}
	}
}

// On a small terminal every count is there, and lanes that are not are counted.
func TestThePictureOnSmallTerminals(t *testing.T) {
	t.Parallel()
	v := night()
	for _, width := range []int{40, 60, 80, 100, 120, 200} {
		for _, height := range []int{6, 8, 12, 16, 24, 50} {
			text := paintedText(v, width, height)
			if n := strings.Count(text, "\n"); n >= height {
				t.Errorf("%dx%d: %d lines", width, height, n)
			}
			words := strings.Join(strings.Fields(text), " ")
			for _, count := range []string{
				"recalled 18,900", "already 2", "duplicate 10", "expired 0", "not_found 30", "rejected 4", "cancelled 0", "open 1,011,064", "total 1,030,010",
			} {
				if !strings.Contains(words, count) {
					t.Errorf("%dx%d has no %q:\n%s", width, height, count, text)
				}
			}
			shown := 0
			for _, l := range v.lanes {
				if strings.Contains(text, l.name()+"  ") {
					shown++
				}
			}
			more := []string{4: "", 3: "and 1 more", 2: "2 more lanes, 1 closed: enqueue lanes", 1: "3 more lanes, 2 closed: enqueue lanes", 0: "4 lanes, 3 closed: enqueue lanes"}
			if !strings.Contains(text, more[shown]) {
				t.Errorf("%dx%d shows %d lanes and not %q:\n%s", width, height, shown, more[shown], text)
			}
		}
	}
	for width, want := range map[int]string{
		80: "  rongcloud:community  out of slots until 02:40:00Z (40m); 3 waiting\n",
		40: "  rongcloud:community  out of slots\n    until 02:40:00Z (40m); 3 waiting\n",
	} {
		if text := paintedText(v, width, 24); !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	v.lanes = v.lanes[1:]
	if text := paintedText(v, 80, 8); !strings.Contains(text, "\n  and 2 more closed lanes: enqueue lanes\n") {
		t.Errorf("%s", text)
	}
}

// What waits for a person or a vendor has no time that could be foretold.
func TestNoTimeIsForetoldForLanesThatAreStuck(t *testing.T) {
	t.Parallel()
	now := time.Now()
	lanes := func(edit ...func(*laneView)) view {
		v := view{now: now, rate: 12, batch: ledger.Batch{Name: "b", Total: 100, Open: 50}}
		for i, e := range edit {
			l := tasks.Lane{Provider: "timchat", App: fmt.Sprint("app", i), Limits: []providers.Limit{{Calls: 1, Per: time.Second}}, LastSeen: now}
			one := viewOf(l, lane.Status{Bulk: lane.Queue{Pending: 21}}, now)
			e(&one)
			v.lanes = append(v.lanes, one)
		}
		return v
	}
	going := func(*laneView) {}
	held := func(l *laneView) { l.Hold.Reason = "credentials" }
	paused := func(l *laneView) { l.Bulk.Paused = true }
	otherQueue := func(l *laneView) { l.Urgent.Paused = true }
	unserved := func(l *laneView) { l.published.LastSeen = now.Add(-time.Hour) }
	idle := func(l *laneView) { l.Bulk.Pending, l.Hold.Reason = 0, "credentials" }
	cancelled := lanes(held)
	cancelled.batch.CancelledAt = now
	for _, c := range []struct {
		v    view
		want string
	}{
		{lanes(going), "12 a second; 20s left at the lanes' limits"},
		{lanes(going, idle), "12 a second; 20s left at the lanes' limits"},
		{lanes(otherQueue), "12 a second; 20s left at the lanes' limits"},
		{lanes(held), "12 a second; waits for timchat:app0, which is held"},
		{lanes(paused), "12 a second; waits for timchat:app0, which is paused"},
		{lanes(unserved), "12 a second; waits for timchat:app0, which is without a worker"},
		{lanes(held, paused, held), "12 a second; waits for 3 lanes: 2 held, 1 paused"},
		{lanes(held, going), "12 a second; 20s left at the lanes' limits, without timchat:app0, which is held"},
		{cancelled, "12 a second"},
	} {
		if got := c.v.sayLeft(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Nothing in the picture but its own colours talks to the terminal.
func TestThePictureIsNobodysToWriteBut(t *testing.T) {
	t.Parallel()
	v := night()
	v.batch.Name, v.batch.By, v.batch.Reason, v.batch.CancelledBy, v.batch.CancelledAt = odd, odd, odd, odd, v.now
	for i := range v.lanes {
		v.lanes[i].published.App, v.lanes[i].Hold.Says = odd, odd
	}
	s := &screen{notes: []string{odd}}
	for _, l := range s.paint(v, 80, 50) {
		text, _ := l.fit(79, false)
		mustBePlain(t, text)
	}
	mustBePlain(t, v.line(true))
}

func TestAnEmptyBatchHasAPicture(t *testing.T) {
	t.Parallel()
	if text := paintedText(view{now: time.Now(), rate: -1, batch: ledger.Batch{Name: "b"}}, 80, 24); !strings.Contains(text, "]    0%") {
		t.Error(text)
	}
}

// The picture is drawn over itself: as many lines up as there are, also after the terminal was made narrower, in one write.
func TestThePictureIsDrawnInPlace(t *testing.T) {
	t.Parallel()
	var writes []string
	s := &screen{picture: true, out: writerFunc(func(p []byte) { writes = append(writes, string(p)) }), size: func() (int, int) { return 80, 24 }}
	s.show(night())
	s.show(night())
	s.size = func() (int, int) { return 50, 24 }
	s.show(night())
	s.size = func() (int, int) { return 50, 6 }
	s.show(night())
	if len(writes) != 4 {
		t.Fatalf("%d writes, want 4", len(writes))
	}
	for i, want := range []string{"\r", "\x1b[18A\r", "\x1b[23A\r", "\x1b[5A\r"} {
		if !strings.HasPrefix(writes[i], want) {
			t.Errorf("write %d begins with %.12q, want %q", i, writes[i], want)
		}
	}
	for _, text := range writes {
		if strings.Contains(text, "\x1b[2J") || !strings.HasSuffix(text, toEnd) {
			t.Errorf("the terminal is cleared first, or not below: %q", text)
		}
	}
	if n := strings.Count(writes[3], "\n"); n != 5 {
		t.Errorf("%d lines on a terminal of 6", n)
	}
}

// odd talks to terminals, forges a line and turns the writing direction.
const odd = "\x1b]0;owned\x07\x1b[2J\x1b[31mx\nstate  recalled\r\u009b31m\u202egpj\u2066\u200b"

// mustBePlain fails if a text is more than one line, or holds a character that is none to see.
func mustBePlain(t *testing.T, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q in %q", []rune(text[i:])[:1], text)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestLinesAreWrittenWhenSomethingChangesAndNotTooOften(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &screen{out: &out}
	v := night()
	count := func() int { return strings.Count(out.String(), "\n") }
	step := func(after time.Duration, ended int64, want int) {
		t.Helper()
		v.now = v.now.Add(after)
		v.batch.Outcomes = map[string]int64{tasks.Recalled: ended}
		s.show(v)
		if count() != want {
			t.Fatalf("%d lines, want %d:\n%s", count(), want, out.String())
		}
	}
	step(0, 10, 1)
	step(time.Minute, 10, 1) // nothing changed
	step(time.Second, 20, 2)
	step(time.Second, 30, 2) // too soon
	step(time.Second, 40, 3)
	step(time.Second, 50, 3)
	s.leave()
	if count() != 4 || !strings.Contains(out.String(), "recalled 50") {
		t.Errorf("what was held back is missing at the end:\n%s", out.String())
	}
}

func TestSharesOfTheBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts []int64
		want   []int
	}{
		{[]int64{0, 0}, []int{0, 0}},
		{[]int64{1, 1}, []int{5, 5}},
		{[]int64{1_000_000, 1}, []int{9, 1}},
		{[]int64{3, 3, 3}, []int{4, 3, 3}},
		{[]int64{1, 1, 1, 1, 1, 1, 1_000_000, 1}, []int{1, 1, 1, 1, 1, 1, 3, 1}},
	} {
		if diff := cmp.Diff(c.want, shares(c.counts, 10)); diff != "" {
			t.Errorf("%v: %s", c.counts, diff)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	at := time.Now()
	if rate := p.add(at, 100); rate >= 0 {
		t.Errorf("rate %v after one look", rate)
	}
	for i := range 100 {
		rate := p.add(at.Add(time.Duration(i+1)*time.Second), int64(100+10*(i+1)))
		if rate != 10 {
			t.Fatalf("rate %v after %d s, want 10", rate, i+1)
		}
	}
	if len(p.samples) > 17 {
		t.Errorf("%d samples are kept", len(p.samples))
	}
	if rate := p.add(at.Add(101*time.Second), 0); rate != 0 {
		t.Errorf("rate %v when recalls are reopened, want 0", rate)
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1_234_567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// Each advice is about a code that the provider knows, or may well see.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider, outcome, code, reason, want string
	}{
		{"timpush", tasks.Rejected, "90053", "", "give offline_push_title"},
		{"timchat", tasks.Rejected, "90003", "", "the account in to"},
		{"timchat", tasks.Rejected, "99999", "", "see the vendor's words"},
		{"jiguang", tasks.NotFound, "", "", "check that the ids are this account's"},
		{"jiguang", tasks.Expired, "", "the recall window closed at x", "nothing: the window is closed"},
		{"jiguang", tasks.Expired, "", "the recall window closed at x; its lane was closed (credentials)", "enqueue lanes"},
		{"timchat", tasks.Expired, "", "", "a longer window for the app"},
		{"timpush", tasks.Expired, "90052", "", "the vendor's own window"},
		{"timpush", tasks.Cancelled, "", "", "enqueue retry incident-41 --outcome cancelled"},
		{"timpush", tasks.Rejected, "70009", "others succeed, this one alone is refused", "the account works for others"},
		{"timpush", tasks.Rejected, "", "the payload cannot be read: x", "enqueue its row again"},
	} {
		f := tasks.Failure{Recall: tasks.Recall{Provider: c.provider, Batch: "incident-41"}, Outcome: tasks.Outcome{Outcome: c.outcome, Code: c.code}, Error: c.reason}
		if got := advice(f, nil); !strings.Contains(got, c.want) {
			t.Errorf("%s %s %s: %q, want %q in it", c.provider, c.outcome, c.code, got, c.want)
		}
	}
}

// A follower that is interrupted says how to go on, also before the first entry.
func TestFollowInterrupted(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	s := start(t, miniredis.RunT(t).Addr(), time.Minute, "outcomes", "--follow", "--after", "now")
	s.until("the reader reads", func() bool { // what came before it has begun it does not show
		s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: []any{"id", "news"}})
		return strings.Contains(s.stdout.String(), `"id":"news"`)
	})
	s.interrupt()
	if code := s.exit(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	lines := strings.Split(strings.TrimSpace(s.stdout.String()), "\n")
	_, place, _ := strings.Cut(lines[len(lines)-1], `"stream_id":"`)
	place, _, _ = strings.Cut(place, `"`)
	if want := "to go on from here: enqueue outcomes --follow --after " + place + "\n"; place == "" || !s.says(want)() {
		t.Errorf("%q is missing in %q", want, s.stderr.String())
	}
}

// A follower waits for a Redis that is not there yet, and one outage has nothing to do with the next, however quiet the stream
// was in between.
func TestFollowOutlivesRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	s := launch(t, server.Addr, time.Minute, "outcomes", "--follow")
	for outage := 1; outage <= 3; outage++ {
		if outage > 1 {
			s.ahead.Store(int64(outage) * int64(time.Hour))
			server.Kill()
		}
		s.until("the message", func() bool { return strings.Count(s.stderr.String(), "; waiting up to 1m for it\n") == outage })
		server.Restart()
		s.until("the return", func() bool { return strings.Count(s.stderr.String(), "Redis answers again; going on\n") == outage })
	}
	if err := s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.OutcomesKey, Values: []any{"id", "news"}}).Err(); err != nil {
		t.Fatal(err)
	}
	s.until("the entry", func() bool { return strings.Contains(s.stdout.String(), `"id":"news"`) })
	server.Kill()
	s.until("the last message", func() bool { return strings.Count(s.stderr.String(), "; waiting up to 1m for it\n") == 4 })
	s.ahead.Store(int64(5 * time.Hour))
	if code := s.exit(); code != exitFailure || !s.says("to go on from here: enqueue outcomes --follow --after ")() {
		t.Errorf("exit code %d: %s", code, s.stderr.String())
	}
}
