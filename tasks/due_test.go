package tasks_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

func TestTheTimeAtWhichAWindowClosesIsToldBeforeTheRecallWaits(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	p := tasks.NewProducer(rdb)
	sent := time.Now().Add(-time.Hour)
	var last time.Time
	for _, id := range []string{"a", "b", "c"} {
		res, err := p.Enqueue(t.Context(), tasks.Recall{Provider: "jiguang", App: "news", MessageID: id, SentAt: sent}, tasks.AllowUnserved())
		if err != nil {
			t.Fatal(err)
		}
		last = res.RecallBy
	}
	got, err := rdb.ZRangeWithScores(t.Context(), tasks.DueKey("jiguang:news"), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Fatalf("%d times told, want 1: %v", len(got), got)
	}
	at := time.Unix(int64(got[0].Score), 0)
	if late := at.Sub(last); late <= 0 || late > tasks.DueStep {
		t.Errorf("told %v after recall_by, want up to %v after it", late, tasks.DueStep)
	}
}

// A promoted recall keeps its payload, and so its own end of the window.
func TestAPromotedRecallsOwnEndIsTold(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	p := newProducer(t, rdb)
	r := tasks.Recall{Provider: "jiguang", MessageID: "1", SentAt: midnight}
	first := enqueue(t, p, r, tasks.WithPriority(tasks.Bulk))
	r.SentAt = midnight.Add(time.Hour)
	if again := enqueue(t, p, r); !again.Promoted {
		t.Fatalf("%+v", again)
	}
	got, err := rdb.ZRangeWithScores(t.Context(), tasks.DueKey("jiguang:news"), 0, -1).Result()
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if late := time.Unix(int64(got[0].Score), 0).Sub(first.RecallBy); late <= 0 || late > tasks.DueStep {
		t.Errorf("told %v after recall_by", late)
	}
}

// Redis has forgotten what was told: the next recall tells it again.
func TestATimeIsToldAgain(t *testing.T) {
	t.Parallel()
	m, rdb := mini(t)
	p := newProducer(t, rdb)
	r := tasks.Recall{Provider: "jiguang", MessageID: "1", SentAt: midnight}
	enqueue(t, p, r)
	m.FlushAll()
	publish(t, rdb, lanes...)
	p.AgeDue(5 * time.Second)
	r.MessageID = "2"
	enqueue(t, p, r)
	if n := rdb.ZCard(t.Context(), tasks.DueKey("jiguang:news")).Val(); n != 1 {
		t.Errorf("%d times are told", n)
	}
}
