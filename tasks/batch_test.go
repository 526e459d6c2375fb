package tasks_test

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// realProducer has the real clock: Redis forgets a batch by its own.
func realProducer(t testing.TB, rdb redis.UniversalClient) *tasks.Producer {
	t.Helper()
	publish(t, rdb, lanes...)
	return tasks.NewProducer(rdb)
}

func openBatch(t testing.TB, p *tasks.Producer, name string, inputs ...string) *tasks.Batch {
	t.Helper()
	b, err := p.OpenBatch(t.Context(), tasks.BatchOptions{Name: name, By: "ops@host", Reason: "incident", Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	return b
}

func row(id string) tasks.Recall {
	return tasks.Recall{Provider: "jiguang", MessageID: id, SentAt: time.Now().Truncate(time.Second)}
}

// add enqueues a row and has it counted.
func add(t testing.TB, b *tasks.Batch, id string, opts ...tasks.EnqueueOption) tasks.Result {
	t.Helper()
	res, err := b.Enqueue(t.Context(), row(id), opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return res
}

// sums reads the counters of a batch that are not zero, and what is open.
func sums(t testing.TB, rdb redis.Cmdable, name string) map[string]int {
	t.Helper()
	all, err := rdb.HGetAll(t.Context(), tasks.BatchKey(name)).Result()
	if err != nil {
		t.Fatal(err)
	}
	open, _ := strconv.Atoi(all["total"])
	got := map[string]int{"total": open}
	for _, field := range append(tasks.Outcomes(), tasks.Duplicate) {
		n, err := strconv.Atoi(all[field])
		if err != nil {
			t.Errorf("%s is %q", field, all[field])
		}
		if n != 0 {
			got[field] = n
		}
		open -= n
	}
	if open != 0 {
		got["open"] = open
	}
	return got
}

func wantSums(t testing.TB, rdb redis.Cmdable, name string, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, sums(t, rdb, name)); diff != "" {
		t.Errorf("batch %s: %s", name, diff)
	}
}

func TestBatchCounts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		a := openBatch(t, p, "a", "one.csv")
		wantSums(t, rdb, "a", map[string]int{"total": 0})

		first := add(t, a, "1")
		if first.Status != tasks.Enqueued || first.Seq == 0 || inQueue(t, rdb, urgentQueue, first.ID).Seq != first.Seq {
			t.Errorf("%+v", first)
		}
		// Twice in a file, and the file twice.
		for range 2 {
			if res := add(t, a, "1"); res.Status != tasks.Duplicate || res.Seq != first.Seq || res.Existing.Batch != "a" {
				t.Errorf("%+v", res)
			}
		}
		wantSums(t, rdb, "a", map[string]int{"total": 1, "open": 1})

		// Another batch's recall is a duplicate, once however often.
		b := openBatch(t, p, "b")
		for range 3 {
			if res := add(t, b, "1"); res.Status != tasks.Duplicate || res.Existing.Batch != "a" {
				t.Errorf("%+v", res)
			}
		}
		second := add(t, b, "2", bulk)
		if second.Seq == 0 {
			t.Errorf("%+v", second)
		}
		wantSums(t, rdb, "b", map[string]int{"total": 2, "duplicate": 1, "open": 1})

		// Promoted by another batch, it stays where it was.
		if res := add(t, a, "2"); !res.Promoted {
			t.Errorf("%+v", res)
		}
		wantSums(t, rdb, "a", map[string]int{"total": 2, "duplicate": 1, "open": 1})
		wantSums(t, rdb, "b", map[string]int{"total": 2, "duplicate": 1, "open": 1})

		// It fails, its own worker dies before the batch knows, and batch a takes it over: a duplicate no more.
		end(t, rdb, urgentQueue, second.ID, tasks.NotFound, fmt.Errorf("gone: %w", asynq.SkipRetry))
		if res := add(t, a, "2"); res.Status != tasks.Enqueued || !res.Replaced {
			t.Errorf("%+v", res)
		}
		wantSums(t, rdb, "a", map[string]int{"total": 2, "open": 2})
		wantSums(t, rdb, "b", map[string]int{"total": 2, "duplicate": 1, "not_found": 1})
		if n := rdb.HLen(t.Context(), tasks.BatchFailuresKey("b")).Val(); n != 1 {
			t.Errorf("%d failures", n)
		}
		// Batch b run again finds another's recall in its place.
		add(t, b, "2")
		wantSums(t, rdb, "b", map[string]int{"total": 2, "duplicate": 2})
		if n := rdb.HLen(t.Context(), tasks.BatchFailuresKey("b")).Val(); n != 0 {
			t.Errorf("%d failures", n)
		}
	})
}

func TestBatchFields(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		read := func() map[string]string { return rdb.HGetAll(t.Context(), tasks.BatchKey("b")).Val() }
		b := openBatch(t, p, "b", "one.csv", "two.csv")
		got := read()
		for field, want := range map[string]string{
			"created_by": "ops@host", "reason": "incident", "inputs": "2", "reading": "2", "total": "0", "not_found": "0",
		} {
			if got[field] != want {
				t.Errorf("%s is %q", field, got[field])
			}
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000Z", got["created_at"]); err != nil || time.Since(at) > time.Minute {
			t.Errorf("created_at: %v, %v", at, err)
		}
		res := add(t, b, "1")
		if err := b.Done(t.Context(), "one.csv"); err != nil {
			t.Fatal(err)
		}
		// The second input was not read to its end. Another run reads it again, and the first one as well.
		openBatch(t, p, "b", "one.csv", "two.csv", "three.csv")
		if got := read(); got["inputs"] != "3" || got["reading"] != "3" {
			t.Errorf("%v", got)
		}
		for range 2 {
			if err := b.Done(t.Context(), "one.csv", "two.csv", "three.csv"); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(); got["reading"] != "0" || got["last_recall_by"] != res.RecallBy.Format("2006-01-02T15:04:05.000Z") {
			t.Errorf("%v", got)
		}
		for _, key := range rdb.Keys(t.Context(), "recallq:batch:*").Val() {
			kept := time.Now().Add(rdb.TTL(t.Context(), key).Val()).Sub(res.RecallBy)
			if d := kept - tasks.KeepBatch; d < -2*time.Second || d > 2*time.Second {
				t.Errorf("%s is kept until %s after its latest recall_by", key, kept)
			}
		}
		if got := rdb.ZRange(t.Context(), tasks.BatchesKey, 0, -1).Val(); len(got) != 1 || got[0] != "b" {
			t.Errorf("%v", got)
		}
	})
}

// To go on with a batch takes a cancellation back, unless one that enqueues for others leaves it.
func TestOpeningACancelledBatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		add(t, openBatch(t, p, "b"), "1")
		rdb.HSet(t.Context(), tasks.BatchKey("b"), "cancelled_at", "now", "cancelled_by", "alice")
		rdb.SAdd(t.Context(), tasks.CancelledKey, "b")
		for _, keep := range []bool{true, false} {
			b, err := p.OpenBatch(t.Context(), tasks.BatchOptions{Name: "b", KeepCancelled: keep})
			if err != nil {
				t.Fatal(err)
			}
			add(t, b, "2")
			_ = b.Close(t.Context())
			marked, listed := rdb.HExists(t.Context(), tasks.BatchKey("b"), "cancelled_at").Val(), rdb.SIsMember(t.Context(), tasks.CancelledKey, "b").Val()
			if marked != keep || listed != keep || b.Cancelled() != keep {
				t.Errorf("keep %v: marked %v, listed %v, seen %v", keep, marked, listed, b.Cancelled())
			}
		}
	})
}

// Many goroutines enqueue the same rows under two names; every row counts once in each.
func TestBatchesAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		const rows = 400
		var wg sync.WaitGroup
		for run := range 4 {
			b := openBatch(t, p, []string{"a", "b"}[run%2])
			for worker := range 8 {
				wg.Go(func() {
					for i := worker; i < rows; i += 8 {
						if _, err := b.Enqueue(t.Context(), row(fmt.Sprint(i)), bulk); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		eventually(t, func() bool { return sums(t, rdb, "a")["total"] == rows && sums(t, rdb, "b")["total"] == rows })
		a, b := sums(t, rdb, "a"), sums(t, rdb, "b")
		if a["open"]+b["open"] != rows || a["duplicate"] != b["open"] || b["duplicate"] != a["open"] {
			t.Errorf("%v %v", a, b)
		}
	})
}

// After an error the row is enqueued again under the same number, and is then no duplicate of itself.
func TestBatchRowAgainAfterALostAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		b := openBatch(t, p, "b")
		lost := add(t, b, "1")
		again := row("1")
		again.Seq = lost.Seq
		res, err := b.Enqueue(t.Context(), again)
		if err != nil || res.Status != tasks.Enqueued || res.Seq != lost.Seq {
			t.Errorf("%+v, %v", res, err)
		}
		wantSums(t, rdb, "b", map[string]int{"total": 1, "open": 1})
	})
}

// Redis is killed and started again under a running batch. Rows that got an error are tried again, as cmd/enqueue does: in
// the end each is one task, and counted once.
func TestBatchThroughARestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := s.Client(t)
	b := openBatch(t, realProducer(t, rdb), "b")
	const rows, goroutines = 3000, 64
	var wg sync.WaitGroup
	var written atomic.Int64
	for worker := range goroutines {
		wg.Go(func() {
			for i := worker; i < rows; i += goroutines {
				r := row(fmt.Sprint(i))
				for tries := 0; ; tries++ {
					res, err := b.Enqueue(t.Context(), r, bulk)
					if err == nil && res.Status != tasks.Enqueued {
						t.Errorf("%+v", res)
					}
					if err == nil || tries == 1000 {
						break
					}
					r.Seq = res.Seq
					time.Sleep(10 * time.Millisecond)
				}
				written.Add(1)
			}
		})
	}
	for _, n := range []int64{rows / 4, rows / 2} {
		eventually(t, func() bool { return written.Load() > n })
		s.Kill()
		s.Restart()
	}
	wg.Wait()
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSums(t, rdb, "b", map[string]int{"total": rows, "open": rows})
	if n := rdb.LLen(t.Context(), "asynq:{"+bulkQueue+"}:pending").Val(); n != rows {
		t.Errorf("%d tasks", n)
	}
}

// The same with lots of recalls at once.
func TestLotsThroughARestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := s.Client(t)
	b := openBatch(t, realProducer(t, rdb), "b")
	const rows, lot = 4000, 100
	var wg sync.WaitGroup
	var written atomic.Int64
	for worker := range 4 {
		wg.Go(func() {
			for from := worker * lot; from < rows; from += 4 * lot {
				var waiting []tasks.Recall
				for i := from; i < from+lot; i++ {
					waiting = append(waiting, row(fmt.Sprint(i)))
				}
				for tries := 0; len(waiting) > 0 && tries < 1000; tries++ {
					var again []tasks.Recall
					for i, e := range b.EnqueueAll(t.Context(), waiting, bulk) {
						switch {
						case e.Err != nil:
							waiting[i].Seq = e.Result.Seq
							again = append(again, waiting[i])
						case e.Result.Status != tasks.Enqueued || e.Result.Seq == 0 || e.Result.ID == "":
							t.Errorf("%+v", e)
						default:
							written.Add(1)
						}
					}
					if waiting = again; len(waiting) > 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
			}
		})
	}
	for _, n := range []int64{rows / 4, rows / 2} {
		eventually(t, func() bool { return written.Load() > n })
		s.Kill()
		s.Restart()
	}
	wg.Wait()
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSums(t, rdb, "b", map[string]int{"total": rows, "open": rows})
	if n := rdb.LLen(t.Context(), "asynq:{"+bulkQueue+"}:pending").Val(); n != rows {
		t.Errorf("%d tasks", n)
	}
}

func TestALotAnswersInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := realProducer(t, rdb)
		add(t, openBatch(t, p, "other"), "theirs")
		b := openBatch(t, p, "b")
		late, wrong := row("late"), row("wrong")
		late.SentAt, wrong.From = time.Now().Add(-48*time.Hour), "nobody"
		for round, first := range []tasks.Status{tasks.Enqueued, tasks.Duplicate} {
			lot := []tasks.Recall{row("1"), late, row("theirs"), wrong, row("1"), row("2")}
			got := b.EnqueueAll(t.Context(), lot, bulk)
			for i, want := range []tasks.Status{first, tasks.Expired, tasks.Duplicate, "", tasks.Duplicate, first} {
				if got[i].Result.Status != want || (want == "") != (got[i].Err != nil) {
					t.Errorf("round %d, row %d: %+v", round, i, got[i])
				}
			}
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSums(t, rdb, "b", map[string]int{"total": 3, "duplicate": 1, "open": 2})
		woken := rdb.Exists(t.Context(), tasks.DueKey(bulkQueue)).Val()
		if woken != 1 || stateOf(t, rdb, bulkQueue, row1ID()) != asynq.TaskStatePending {
			t.Errorf("the lot is not as a single recall is: %d", woken)
		}
		if known := rdb.HExists(t.Context(), tasks.BatchKey("b"), tasks.LaneField+"jiguang:news").Val(); !known {
			t.Error("the batch does not know the lot's lane")
		}
	})
}

// An entry of the published lanes that cannot be read keeps the recalls of that lane from their queue, and no others.
func TestALaneThatCannotBeReadFailsItsOwnRecalls(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	b := openBatch(t, realProducer(t, rdb), "b")
	rdb.HSet(t.Context(), tasks.LanesKey, "engagelab:odd", "{")
	odd := tasks.Recall{Provider: "engagelab", App: "odd", MessageID: "1", SentAt: time.Now()}
	got := b.EnqueueAll(t.Context(), []tasks.Recall{row("1"), odd, row("2")}, bulk)
	if got[0].Err != nil || got[1].Err == nil || got[2].Err != nil {
		t.Errorf("%+v", got)
	}
}

func row1ID() string {
	r := row("1")
	r.App = "news"
	return r.ID()
}

// When Redis is away, one of all who wait for a number, for a lane or for the lanes finds that out, and not each after the other.
func TestThoseWhoWaitShareAFailure(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	b := openBatch(t, realProducer(t, rdb), "b")
	const rows = 40
	var away atomic.Bool
	var asked atomic.Int64
	release := make(chan struct{})
	rdb.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if !away.Load() {
			return next(ctx, cmd)
		}
		asked.Add(1)
		<-release
		cmd.SetErr(io.ErrUnexpectedEOF)
		return cmd.Err()
	}))
	away.Store(true)
	var came atomic.Int64
	var wg sync.WaitGroup
	for i := range rows {
		wg.Go(func() {
			came.Add(1)
			if _, err := b.Enqueue(t.Context(), row(strconv.Itoa(i)), bulk); err == nil {
				t.Error("it was enqueued")
			}
		})
	}
	eventually(t, func() bool { return asked.Load() > 0 && came.Load() == rows })
	close(release)
	wg.Wait()
	if n := asked.Load(); n > rows/4 { // one may come a moment late
		t.Errorf("redis was asked %d times by %d", n, rows)
	}
	asked.Store(0)
	if got := b.EnqueueAll(t.Context(), []tasks.Recall{row("1"), row("2"), row("3")}, bulk); got[0].Err == nil || got[2].Err == nil {
		t.Errorf("%+v", got)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("redis was asked %d times for a lot", n)
	}
	away.Store(false)
	for _, e := range b.EnqueueAll(t.Context(), []tasks.Recall{row("1"), row("2"), row("3")}, bulk) {
		if e.Err != nil {
			t.Error(e.Err)
		}
	}
}

func TestBatchNames(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	for _, name := range []string{"", "-b", "a b", "{b}", strings.Repeat("b", 64)} {
		if _, err := tasks.NewProducer(rdb).OpenBatch(t.Context(), tasks.BatchOptions{Name: name}); err == nil || !strings.Contains(err.Error(), "batch") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// BenchmarkBatch fills a bulk queue recall by recall, from many goroutines on one batch.
func BenchmarkBatch(b *testing.B) {
	for _, goroutines := range []int{64, 256, 1024} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s := redistest.Start(b, "--appendonly", "no")
			batch := openBatch(b, realProducer(b, s.Client(b)), "b")
			rows := make(chan int, goroutines)
			var wg sync.WaitGroup
			sentAt := time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for range goroutines {
				wg.Go(func() {
					for i := range rows {
						r := tasks.Recall{
							Provider: "timchat", App: "chat", MessageID: fmt.Sprintf("%d_%d_%d", i, i, sentAt.Unix()), SentAt: sentAt,
							From: "sender", To: fmt.Sprint("recipient", i),
						}
						if res, err := batch.Enqueue(b.Context(), r, bulk, tasks.Checked()); err != nil || res.Status != tasks.Enqueued {
							b.Errorf("%+v, %v", res, err)
						}
					}
				})
			}
			for i := range b.N {
				rows <- i
			}
			close(rows)
			wg.Wait()
			if err := batch.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "recalls/s")
		})
	}
}

// BenchmarkEnqueueAll fills a bulk queue in lots of some hundred.
func BenchmarkEnqueueAll(b *testing.B) {
	for _, goroutines := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s := redistest.Start(b, "--appendonly", "no")
			batch := openBatch(b, realProducer(b, s.Client(b)), "b")
			const lot = 250
			lots := make(chan int, goroutines)
			var wg sync.WaitGroup
			sentAt := time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for range goroutines {
				wg.Go(func() {
					for from := range lots {
						rows := make([]tasks.Recall, 0, lot)
						for i := from; i < min(from+lot, b.N); i++ {
							rows = append(rows, tasks.Recall{
								Provider: "timchat", App: "chat", MessageID: fmt.Sprintf("%d_%d_%d", i, i, sentAt.Unix()), SentAt: sentAt,
								From: "sender", To: fmt.Sprint("recipient", i),
							})
						}
						for _, e := range batch.EnqueueAll(b.Context(), rows, bulk, tasks.Checked()) {
							if e.Err != nil || e.Result.Status != tasks.Enqueued {
								b.Errorf("%+v", e)
							}
						}
					}
				})
			}
			for i := 0; i < b.N; i += lot {
				lots <- i
			}
			close(lots)
			wg.Wait()
			if err := batch.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "recalls/s")
		})
	}
}
