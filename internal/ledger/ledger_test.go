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
			e.Recall.MessageID, FormatTime(e.Recall.SentAt), e.ID, FormatTime(e.Recall.RecallBy), FormatTime(e.Outcome.FinishedAt))
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
		if got, err := l.Cancelled(ctx); err != nil || !slices.Equal(got, []string{"old"}) {
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
		if got, err := l.Cancelled(ctx); err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
		if err := l.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if got := rdb.ZRange(ctx, tasks.BatchesKey, 0, -1).Val(); len(got) != 2 {
			t.Errorf("%v", got)
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

func TestTheStreamTellsWhatWasMissed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		read := func(after string) (list []Event) {
			for e, err := range l.Outcomes(t.Context(), after, false) {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, e)
			}
			return list
		}
		if got := read(FromStart); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		for seq := range int64(4) {
			record(t, l, entry("b", seq+1, tasks.NotFound))
		}
		all := read(FromStart)
		if len(all) != 4 || all[0].Missed || all[3].Seq != 4 || all[3].Code != "20022" || all[3].Attempts != 2 || all[3].Ref != "=ref" || all[3].SentAt.IsZero() {
			t.Fatalf("%+v", all)
		}
		if got := read(all[1].StreamID); len(got) != 2 || got[0].Seq != 3 || got[0].Missed {
			t.Errorf("%+v", got)
		}
		if got := read(FromNow); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		rdb.XTrimMinID(t.Context(), OutcomesKey, all[3].StreamID)
		if got := read(all[0].StreamID); len(got) != 1 || !got[0].Missed {
			t.Errorf("%+v", got)
		}
		for _, err := range l.Outcomes(t.Context(), "yesterday", false) {
			if err == nil || !strings.Contains(err.Error(), "yesterday") {
				t.Error(err)
			}
		}
	})
}

func TestFollow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		l := New(rdb)
		record(t, l, entry("b", 1, tasks.Recalled))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := make(chan Event)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for e, err := range l.Outcomes(ctx, FromStart, true) {
				if err != nil {
					t.Error(err)
				}
				events <- e
			}
		}()
		if e := <-events; e.Seq != 1 {
			t.Errorf("%+v", e)
		}
		record(t, l, entry("b", 2, tasks.Recalled))
		if e := <-events; e.Seq != 2 || e.Missed {
			t.Errorf("%+v", e)
		}
		cancel()
		<-ended
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
	if err := errors.Join(l.Cancel(t.Context(), "b", "ops", time.Now()), l.Tidy(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := l.Prune(t.Context(), "jiguang:app", time.Now()); err != nil {
		t.Error(err)
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
