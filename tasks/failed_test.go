package tasks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

func TestFailureIn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		r := withBatch(tasks.Recall{V: 1, Provider: "jiguang", App: "news", MessageID: "1", SentAt: midnight}, "b", 4)
		want := tasks.Failure{
			Recall: r, ID: r.ID(), Error: "no such message",
			Outcome: tasks.Outcome{Outcome: tasks.NotFound, Code: "20022", Attempts: 1, FinishedAt: now},
		}
		if _, err := tasks.CountIn(t.Context(), rdb, "b", tasks.Count{Seq: 4, ID: r.ID(), As: tasks.NotFound, Failure: &want}); err != nil {
			t.Fatal(err)
		}
		got, found, err := tasks.FailureIn(t.Context(), rdb, "b", r.ID())
		if err != nil || !found {
			t.Fatalf("found %v, %v", found, err)
		}
		got.Recall.V = 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		other := tasks.Recall{Provider: "jiguang", App: "news", MessageID: "2"}
		for _, look := range []struct{ batch, id string }{{"b", other.ID()}, {"none", r.ID()}} {
			if _, found, err := tasks.FailureIn(t.Context(), rdb, look.batch, look.id); found || err != nil {
				t.Errorf("%v: found %v, %v", look, found, err)
			}
		}
	})
}
