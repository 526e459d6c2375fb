package tasks_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// fail has a worker end an urgent recall of a batch as not found, and count it; the archive may forget it then.
func fail(t *testing.T, rdb *redis.Client, batch, id string, forget bool) {
	t.Helper()
	r := inQueue(t, rdb, urgentQueue, id)
	if r.Batch != batch {
		t.Fatalf("%s is of batch %q, not %q", id, r.Batch, batch)
	}
	o := tasks.Outcome{Outcome: tasks.NotFound, FinishedAt: now}
	count := tasks.Count{Seq: r.Seq, ID: id, As: o.Outcome, Failure: &tasks.Failure{Recall: r, ID: id, Outcome: o}}
	if _, err := tasks.CountIn(t.Context(), rdb, batch, count); err != nil {
		t.Fatal(err)
	}
	end(t, rdb, urgentQueue, id, o.Outcome, fmt.Errorf("gone: %w", asynq.SkipRetry))
	if !forget {
		return
	}
	if err := asynq.NewInspectorFromRedisClient(rdb).DeleteTask(urgentQueue, id); err != nil {
		t.Fatal(err)
	}
}

// A recall that another batch has is one duplicate, whatever becomes of it there, and whoever takes its place.
func TestADuplicateCountsOnceWhateverBecomesOfTheOther(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("forgotten=%v together=%v", forget, all), func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, rdb *redis.Client) {
					p := realProducer(t, rdb)
					again := func(batch string) tasks.Result {
						b := openBatch(t, p, batch)
						if !all {
							return add(t, b, "1")
						}
						done := b.EnqueueAll(t.Context(), []tasks.Recall{row("1")})[0]
						if done.Err != nil || b.Flush(t.Context()) != nil {
							t.Fatal(done.Err)
						}
						return done.Result
					}
					id := again("a").ID
					dup := map[string]int{"total": 1, "duplicate": 1}
					for range 2 {
						again("c")
						wantSums(t, rdb, "c", dup)
					}
					fail(t, rdb, "a", id, forget)
					again("a") // under another number
					again("c")
					wantSums(t, rdb, "c", dup)
					fail(t, rdb, "a", id, forget)
					again("b") // another batch takes its place
					again("c")
					wantSums(t, rdb, "a", map[string]int{"total": 1, "not_found": 1})
					wantSums(t, rdb, "b", map[string]int{"total": 1, "open": 1})
					wantSums(t, rdb, "c", dup)
					fail(t, rdb, "b", id, forget)
					again("c") // now it is its own
					wantSums(t, rdb, "b", map[string]int{"total": 1, "not_found": 1})
					wantSums(t, rdb, "c", map[string]int{"total": 1, "open": 1})
					again("b")
					wantSums(t, rdb, "b", dup)
				})
			})
		}
	}
}

// What another process has counted as a duplicate is known a second later, also to one that never stops enqueueing.
func TestDuplicatesOfAnotherProcessAreKnownToABusyOne(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := realProducer(t, rdb)
	busy := openBatch(t, realProducer(t, rdb), "c")
	id := add(t, openBatch(t, p, "a"), "1").ID
	add(t, openBatch(t, p, "c"), "1")
	fail(t, rdb, "a", id, true)
	for _, other := range []string{"2", "3", "4"} {
		add(t, busy, other)
		busy.AgeOthers(600 * time.Millisecond)
	}
	add(t, busy, "1")
	wantSums(t, rdb, "c", map[string]int{"total": 4, "open": 4})
}

// A sheet of the other batch's numbers is a set while they are few, and bits then; either way each number counts once.
func TestSheetsOfDuplicates(t *testing.T) {
	t.Parallel()
	for name, seqs := range map[string]func(i int64) int64{
		"all":              func(i int64) int64 { return i },
		"every hundredth":  func(i int64) int64 { return 100 * i },
		"at the edges":     func(i int64) int64 { return 8192*i - i%3 },
		"backwards, of 10": func(i int64) int64 { return 30_000 - 10*i },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, rdb *redis.Client) {
				const n = 2500
				count := func(as string, from, to int64) {
					t.Helper()
					var counts []tasks.Count
					for i := from; i <= to; i++ {
						counts = append(counts, tasks.Count{ID: strconv.FormatInt(i, 10), As: as, Of: tasks.Number{Batch: "a", Seq: seqs(i)}})
						if len(counts) < 500 && i < to {
							continue
						}
						if _, err := tasks.CountIn(t.Context(), rdb, "c", counts...); err != nil {
							t.Fatal(err)
						}
						counts = nil
					}
				}
				count(tasks.Duplicate, 1, n/2)
				count(tasks.Duplicate, n/4, n)
				if got := duplicates(t, rdb, "c"); got != n {
					t.Errorf("%d duplicates, not %d", got, n)
				}
				// What is known by its id from then on is no number any more, and counts as before.
				count("", 1, 100)
				count("", 1, 100)
				count(tasks.Duplicate, 1, n)
				if got := duplicates(t, rdb, "c"); got != n {
					t.Errorf("%d duplicates, not %d", got, n)
				}
				if known := rdb.HLen(t.Context(), tasks.BatchKey("c")+":d").Val(); known != 100 {
					t.Errorf("%d are known by their ids", known)
				}
			})
		})
	}
}

// duplicates reads how many duplicates a batch counts. All of it has to go with the batch.
func duplicates(t *testing.T, rdb *redis.Client, batch string) int {
	t.Helper()
	for _, key := range rdb.Keys(t.Context(), tasks.BatchKey(batch)+"*").Val() {
		if ttl := rdb.TTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s is kept for ever", key)
		}
	}
	got, err := rdb.HMGet(t.Context(), tasks.BatchKey(batch), "duplicate", "total").Result()
	if err != nil || got[0] != got[1] {
		t.Errorf("%v, %v", got, err)
	}
	n, err := strconv.Atoi(got[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Each other batch is asked for each row, so that there are not any number of them: what more there is, is known by its id.
func TestDuplicatesOfManyBatches(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := realProducer(t, rdb)
	const batches = 50
	for range 2 {
		c := openBatch(t, p, "c")
		for i := range batches {
			id := strconv.Itoa(i)
			add(t, openBatch(t, p, "other-"+id), id)
			add(t, c, id)
		}
	}
	wantSums(t, rdb, "c", map[string]int{"total": batches, "duplicate": batches})
	if asked := rdb.SCard(t.Context(), tasks.BatchKey("c")+":o").Val(); asked != 32 {
		t.Errorf("%d batches are asked", asked)
	}
}

// A number that others have written, and that would fill Redis or name another key, is not believed: the id counts then.
func TestNumbersOfOthersAreNotBelieved(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	for i, of := range []tasks.Number{{Batch: "a", Seq: 1 << 40}, {Batch: "a", Seq: -1}, {Batch: "a}:x", Seq: 1}, {Batch: "", Seq: 1}, {Batch: "c", Seq: 1}} {
		count := tasks.Count{ID: strconv.Itoa(i), As: tasks.Duplicate, Of: of}
		if _, err := tasks.CountIn(t.Context(), rdb, "c", count, count); err != nil {
			t.Fatal(err)
		}
		if got := duplicates(t, rdb, "c"); got != i+1 {
			t.Errorf("%+v: %d duplicates, not %d", of, got, i+1)
		}
	}
	if keys := rdb.Keys(t.Context(), "*:o*").Val(); len(keys) > 0 {
		t.Errorf("%q", keys)
	}
}

// A file that is run again without its batch's name consists of another batch's recalls; they cost at most 2 bytes each. Where fewer than
// one in ten of the other batch's are met, what counts is that they never cost more than a quarter of a byte for each that it has.
func TestMemoryOfDuplicates(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t, "--appendonly", "no").Client(t)
	for _, every := range []int64{1, 3, 10, 30, 100, 1000} {
		name, n := strconv.FormatInt(every, 10), 200_000/every
		counts := make([]tasks.Count, 0, 1000)
		for i := int64(1); i <= n; i++ {
			of := tasks.Number{Batch: "a", Seq: every * i}
			counts = append(counts, tasks.Count{ID: name, As: tasks.Duplicate, Of: of, RecallBy: time.Now().Add(time.Hour)})
			if len(counts) < cap(counts) && i < n {
				continue
			}
			if _, err := tasks.CountIn(t.Context(), rdb, name, counts...); err != nil {
				t.Fatal(err)
			}
			counts = counts[:0]
		}
		if got := duplicates(t, rdb, name); int64(got) != n {
			t.Errorf("%d duplicates", got)
		}
		var used int64
		for _, key := range rdb.Keys(t.Context(), tasks.BatchKey(name)+"*").Val() {
			used += rdb.MemoryUsage(t.Context(), key, 0).Val()
		}
		t.Logf("one of %d is a duplicate: %.2f bytes each", every, float64(used)/float64(n))
		if every <= 10 && used > 2*n || used > n*every/4+4096 {
			t.Errorf("one of %d is a duplicate: %d bytes for %d", every, used, n)
		}
	}
}
