package tasks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// run is one enqueuer of the same rows as others.
type run struct {
	batch    string
	priority tasks.Priority
	lot      int
}

// atOnce lets all runs enqueue the same rows at the same moment, lots or one by one.
func atOnce(t *testing.T, rdb *redis.Client, rows int, runs ...run) {
	t.Helper()
	batches := map[string]*tasks.Batch{}
	for _, r := range runs {
		if batches[r.batch] == nil {
			batches[r.batch] = openBatch(t, realProducer(t, rdb), r.batch)
		}
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, r := range runs {
		b := batches[r.batch]
		wg.Go(func() {
			<-start
			for from := 0; from < rows; from += r.lot {
				var lot []tasks.Recall
				for i := from; i < min(from+r.lot, rows); i++ {
					lot = append(lot, row(fmt.Sprint(i)))
				}
				for _, e := range b.EnqueueAll(t.Context(), lot, tasks.WithPriority(r.priority)) {
					if e.Err != nil {
						t.Error(e.Err)
					}
				}
			}
		})
	}
	close(start)
	wg.Wait()
	for _, b := range batches {
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantOneTaskEach checks that no recall is in both queues, and that each is open in one batch only.
func wantOneTaskEach(t *testing.T, rdb *redis.Client, rows int, batches ...string) {
	t.Helper()
	seen := map[string]int{}
	for _, queue := range []string{urgentQueue, bulkQueue} {
		for _, id := range rdb.LRange(t.Context(), "asynq:{"+queue+"}:pending", 0, -1).Val() {
			seen[id]++
		}
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("%s is in both queues", id)
		}
	}
	open := 0
	for _, name := range batches {
		s := sums(t, rdb, name)
		open += s["open"]
		if s["total"] != rows || s["open"]+s["duplicate"] != rows {
			t.Errorf("%s: %v", name, s)
		}
	}
	if len(seen) != rows || open != rows {
		t.Errorf("%d tasks, %d open, want %d", len(seen), open, rows)
	}
}

func TestTheSameRowsAtOnceAsUrgentAndAsBulk(t *testing.T) {
	t.Parallel()
	const rows = 120
	for name, runs := range map[string][]run{
		"one batch":              {{"A", tasks.Urgent, 40}, {"A", tasks.Bulk, 40}},
		"one batch, four runs":   {{"A", tasks.Urgent, 30}, {"A", tasks.Bulk, 40}, {"A", tasks.Urgent, 1}, {"A", tasks.Bulk, 1}},
		"two batches":            {{"A", tasks.Urgent, 40}, {"B", tasks.Bulk, 40}},
		"two, one of them twice": {{"A", tasks.Urgent, 40}, {"A", tasks.Bulk, 40}, {"B", tasks.Bulk, 40}},
		"three batches":          {{"A", tasks.Urgent, 1}, {"B", tasks.Bulk, 1}, {"C", tasks.Urgent, 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, rdb *redis.Client) {
				for range 10 {
					rdb.FlushAll(t.Context())
					atOnce(t, rdb, rows, runs...)
					var names []string
					for _, r := range runs {
						if len(names) == 0 || r.batch != "A" {
							names = append(names, r.batch)
						}
					}
					wantOneTaskEach(t, rdb, rows, names...)
				}
			})
		})
	}
}

// What waits as bulk is moved by one of two that enqueue it as urgent at once; its batch keeps it, or counts it as theirs.
func TestTwoThatPromoteAtOnce(t *testing.T) {
	t.Parallel()
	const rows = 120
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		for range 10 {
			rdb.FlushAll(t.Context())
			atOnce(t, rdb, rows, run{"A", tasks.Bulk, rows})
			atOnce(t, rdb, rows, run{"B", tasks.Urgent, 40}, run{"C", tasks.Urgent, 40})
			wantOneTaskEach(t, rdb, rows, "A", "B", "C")
		}
	})
}

// Others who enqueue the recall of two tasks may have met either, and their counts come in any order: in each batch it counts once.
func TestWhoeverMetATwinCountsItOnce(t *testing.T) {
	t.Parallel()
	const id = "jiguang_0441b6d5ef67907719c6f3baaecba198"
	winner, loser := tasks.Number{Batch: "A", Seq: 1}, tasks.Number{Batch: "B", Seq: 5}
	for batch, c := range map[string]struct {
		own, met, told []tasks.Count // the first of met is before the second, and so on
		outcome        tasks.Count
		want           string
	}{
		"A": {
			own:     []tasks.Count{{Seq: 1, ID: id, As: tasks.Open}},
			met:     []tasks.Count{{ID: id, As: tasks.Duplicate, Of: loser}},
			told:    []tasks.Count{{Seq: 1, ID: id, Of: loser}, {Seq: 1, ID: id, As: tasks.Open}},
			outcome: tasks.Count{Seq: 1, ID: id, As: tasks.Recalled},
			want:    tasks.Recalled,
		},
		"B": {
			own:     []tasks.Count{{Seq: 5, ID: id, As: tasks.Open}},
			met:     []tasks.Count{{ID: id, As: tasks.Duplicate, Of: winner}},
			told:    []tasks.Count{{Seq: 5, ID: id}, {Seq: 5, ID: id, As: tasks.Duplicate, Of: winner}},
			outcome: tasks.Count{ID: id, As: tasks.Duplicate, Of: winner}, // its input is run again
			want:    tasks.Duplicate,
		},
	} {
		for _, order := range [][3][]tasks.Count{
			{c.own, c.met, c.told}, {c.own, c.told, c.met}, {c.met, c.own, c.told},
			{c.met, c.told, c.own}, {c.told, c.own, c.met}, {c.told, c.met, c.own},
		} {
			_, rdb := mini(t)
			openBatch(t, tasks.NewProducer(rdb), batch)
			for _, step := range order {
				for _, one := range step {
					if _, err := tasks.CountIn(t.Context(), rdb, batch, one); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := sums(t, rdb, batch); got["total"] != 1 {
				t.Errorf("%v: %v", order, got)
			}
			if _, err := tasks.CountIn(t.Context(), rdb, batch, c.outcome); err != nil {
				t.Fatal(err)
			}
			wantSums(t, rdb, batch, map[string]int{"total": 1, c.want: 1})
		}
	}
}

// Of two tasks of one recall in one batch one number counts, whatever became of the other meanwhile.
func TestOfTwoNumbersOneCounts(t *testing.T) {
	t.Parallel()
	const id = "jiguang_0441b6d5ef67907719c6f3baaecba198"
	count := func(seq int64, as string) tasks.Count { return tasks.Count{Seq: seq, ID: id, As: as} }
	type steps [][]tasks.Count
	merge := []tasks.Count{count(9, tasks.Renumbered), tasks.Staying(count(5, tasks.Open))}
	nine, five := []tasks.Count{count(9, tasks.Open)}, []tasks.Count{count(5, tasks.Open)}
	for name, test := range map[string]struct {
		steps steps
		want  map[string]int
	}{
		"the usual":                       {steps{nine, five, merge}, map[string]int{"total": 1, "open": 1}},
		"before either was counted":       {steps{merge, nine, five}, map[string]int{"total": 1, "open": 1}},
		"the one that went ended well":    {steps{nine, five, {count(9, tasks.Recalled)}, merge, {count(5, tasks.AlreadyRecalled)}}, map[string]int{"total": 1, "recalled": 1}},
		"late news of the one that went":  {steps{merge, {count(9, tasks.Rejected)}, {count(5, tasks.Recalled)}}, map[string]int{"total": 1, "recalled": 1}},
		"well ended, taken for another's": {steps{{count(9, "")}, nine, five, {count(9, tasks.Recalled)}, merge}, map[string]int{"total": 1, "recalled": 1}},
		"taken for another's meanwhile":   {steps{{count(5, "")}, nine, merge}, map[string]int{"total": 1, "open": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, rdb *redis.Client) {
				openBatch(t, realProducer(t, rdb), "b")
				for _, step := range test.steps {
					if _, err := tasks.CountIn(t.Context(), rdb, "b", step...); err != nil {
						t.Fatal(err)
					}
				}
				wantSums(t, rdb, "b", test.want)
			})
		})
	}
}

// The same while workers take the recalls as they come: each counts once, whichever of its tasks they got hold of.
func TestTheSameRowsAtOnceWithWorkers(t *testing.T) {
	t.Parallel()
	const rows = 200
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		count := func(ctx context.Context, task *asynq.Task) error {
			r, err := tasks.Decode(task.Payload())
			if err != nil {
				return err
			}
			if _, err = tasks.CountIn(ctx, rdb, r.Batch, tasks.Count{Seq: r.Seq, ID: r.ID(), As: tasks.Recalled}); err != nil {
				return err
			}
			text, err := json.Marshal(tasks.Outcome{Outcome: tasks.Recalled})
			if err != nil {
				return err
			}
			_, err = task.ResultWriter().Write(text)
			return err
		}
		realProducer(t, rdb)
		worker{count}.start(t, rdb, urgentQueue, bulkQueue)
		for round := range 5 {
			name := fmt.Sprint("b", round)
			b := openBatch(t, realProducer(t, rdb), name)
			var wg sync.WaitGroup
			for _, pr := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
				wg.Go(func() {
					var lot []tasks.Recall
					for i := range rows {
						lot = append(lot, row(fmt.Sprint(round, "x", i)))
					}
					for _, e := range b.EnqueueAll(t.Context(), lot, tasks.WithPriority(pr)) {
						if e.Err != nil {
							t.Error(e.Err)
						}
					}
				})
			}
			wg.Wait()
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { return sums(t, rdb, name)["open"] == 0 })
			wantSums(t, rdb, name, map[string]int{"total": rows, "recalled": rows})
		}
	})
}
