package tasks_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

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
			if got := rdb.HGet(t.Context(), tasks.BatchKey("b"), "reading").Val(); got != "1" {
				t.Errorf("%s inputs are being read", got)
			}
			if by := rdb.HGet(t.Context(), tasks.BatchKey("b"), "created_by").Val(); by != "ops@host" {
				t.Errorf("it was begun by %q", by)
			}
			if err := rdb.ZScore(t.Context(), tasks.BatchesKey, "b").Err(); err != nil {
				t.Errorf("it is not listed: %v", err)
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

// A batch that is full takes no more, and what is in it is counted and ends all the same.
func TestAFullBatchEnds(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	b := openBatch(t, realProducer(t, rdb), "b", "file")
	add(t, b, "0")
	rdb.HSet(t.Context(), tasks.BatchKey("b"), "next_seq", tasks.MaxSeq-3)
	var err error
	for i := 1; i < 50 && err == nil; i++ {
		_, err = b.Enqueue(t.Context(), row(strconv.Itoa(i)))
	}
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatal(err)
	}
	if err := b.Done(t.Context(), "file"); err != nil {
		t.Error(err)
	}
	if n := rdb.HGet(t.Context(), tasks.BatchKey("b"), "reading").Val(); n != "0" {
		t.Errorf("%s inputs are being read", n)
	}
}

// Redis goes away before the last recalls are counted, and comes back without some of them: they are lost, and not open.
func TestWhatIsCountedAfterAnOutageHasATask(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	var away atomic.Bool
	rdb.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if away.Load() && script(cmd, 6) { // counting
			cmd.SetErr(io.ErrUnexpectedEOF)
			return cmd.Err()
		}
		return next(ctx, cmd)
	}))
	b := openBatch(t, realProducer(t, rdb), "b")
	add(t, b, "0")
	away.Store(true)
	var lost []string
	for i := 1; i < 5; i++ {
		res, err := b.Enqueue(t.Context(), row(strconv.Itoa(i)), bulk)
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, tasks.TaskKey(res.Queue, res.ID))
	}
	if b.Flush(t.Context()) == nil {
		t.Fatal("it was counted")
	}
	if err := rdb.Del(t.Context(), lost[:3]...).Err(); err != nil {
		t.Fatal(err)
	}
	away.Store(false)
	var missing *tasks.LostError
	if err := b.Check(t.Context()); !errors.As(err, &missing) || missing.Lost != 3 {
		t.Errorf("%v", err)
	}
	wantSums(t, rdb, "b", map[string]int{"total": 2, "open": 2})
}
