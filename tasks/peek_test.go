package tasks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// peek is Peek of one recall. TestEnqueuedAgain compares it with what then happens, in every state of an earlier task.
func peek(t *testing.T, rdb *redis.Client, pr tasks.Priority, r tasks.Recall) tasks.Result {
	t.Helper()
	r, _, refused := r.Check(now)
	if refused == nil {
		r, refused = tasks.Resolve(r, lanes, now, false)
	}
	if refused != nil {
		t.Fatal(refused)
	}
	found, err := tasks.Peek(t.Context(), rdb, pr, []tasks.Recall{r})
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func TestPeekAtMany(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		p := newProducer(t, rdb)
		var recalls []tasks.Recall
		var want []tasks.Result
		for n := range 300 {
			r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: fmt.Sprint(n), SentAt: midnight, RecallBy: midnight.Add(24 * time.Hour)}
			res := tasks.Result{ID: r.ID(), Status: tasks.Enqueued, App: "news", RecallBy: r.RecallBy, Queue: bulkQueue}
			if n%3 == 0 {
				enqueue(t, p, r, bulk)
				res.Status, res.Existing.Standing = tasks.Duplicate, tasks.Open
			}
			recalls, want = append(recalls, r), append(want, res)
		}
		before := rdb.DBSize(t.Context()).Val()
		got, err := tasks.Peek(t.Context(), rdb, tasks.Bulk, recalls)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if after := rdb.DBSize(t.Context()).Val(); after != before {
			t.Errorf("%d keys were written", after-before)
		}
	})
}
