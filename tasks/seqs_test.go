package tasks_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// Redis comes back with what it had a while ago. A batch that is being enqueued is told what is lost; no number is given to two recalls,
// and the same rows again make it whole.
func TestARedisThatCameBackWithoutItsLastWrites(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"with older data": true, "empty": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--appendonly", "no")
			rdb := s.Client(t)
			b := openBatch(t, realProducer(t, rdb), "b", "file")
			rows := func(b *tasks.Batch, from, to int) (ids []string) {
				t.Helper()
				var list []tasks.Recall
				for i := from; i < to; i++ {
					list = append(list, row(strconv.Itoa(i)))
				}
				for _, e := range b.EnqueueAll(t.Context(), list, bulk) {
					if e.Err != nil {
						t.Fatal(e.Err)
					}
					ids = append(ids, e.Result.ID)
				}
				return ids
			}
			rows(b, 0, 10)
			if err := b.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if kept {
				if err := rdb.Save(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			rows(b, 10, 40)
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Kill()
			s.Restart()
			realProducer(t, rdb) // workers publish their lanes again
			rows(b, 40, 45)
			var lost *tasks.LostError
			if err := b.Done(t.Context(), "file"); !errors.As(err, &lost) || lost.Lost != 30 || lost.Batch != "b" {
				t.Errorf("%v", err)
			}
			if got := rdb.HGet(t.Context(), tasks.BatchKey("b"), "reading").Val(); kept && got != "1" {
				t.Errorf("%s inputs are being read", got)
			}

			again := openBatch(t, realProducer(t, rdb), "b", "file")
			ids := rows(again, 0, 45)
			if err := again.Done(t.Context(), "file"); err != nil {
				t.Error(err)
			}
			wantSums(t, rdb, "b", map[string]int{"total": 45, "open": 45})
			seqs := map[int64]bool{}
			for _, id := range ids {
				seqs[inQueue(t, rdb, bulkQueue, id).Seq] = true
			}
			if len(seqs) != 45 {
				t.Errorf("45 recalls have %d numbers", len(seqs))
			}
			if err := b.Check(t.Context()); err != nil { // what is known to be lost is not told again
				t.Error(err)
			}
		})
	}
}

// What was enqueued while it was checked, or could not be checked, is checked the next time.
func TestWhatCouldNotBeCheckedIsCheckedLater(t *testing.T) {
	t.Parallel()
	m, rdb := mini(t)
	b := openBatch(t, realProducer(t, rdb), "b")
	for i := range 10 {
		add(t, b, strconv.Itoa(i))
	}
	m.SetError("LOADING")
	if err := b.Check(t.Context()); err == nil {
		t.Error("it was checked")
	}
	m.SetError("")
	if err := rdb.Del(t.Context(), tasks.BatchKey("b")+":s").Err(); err != nil {
		t.Fatal(err)
	}
	var lost *tasks.LostError
	if err := b.Check(t.Context()); !errors.As(err, &lost) || lost.Lost != 10 {
		t.Errorf("%v", err)
	}
}
