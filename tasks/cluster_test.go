package tasks_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/tasks"
)

// On a Cluster no script may touch both queues of a lane: what waits as bulk is written first and removed then, and is one task all the same.
func TestPromotionOnACluster(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, s := range redistest.StartCluster(t) {
		addrs = append(addrs, s.Addr)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = rdb.Close() })
	const rows = 60
	b := openBatch(t, realProducer(t, rdb), "b")
	other := openBatch(t, realProducer(t, rdb), "other")
	var lot []tasks.Recall
	for i := range rows {
		lot = append(lot, row(fmt.Sprint(i)))
	}
	for _, e := range b.EnqueueAll(t.Context(), lot, bulk) {
		if e.Err != nil || e.Result.Status != tasks.Enqueued {
			t.Fatalf("%+v", e)
		}
	}
	for _, e := range other.EnqueueAll(t.Context(), lot) {
		if e.Err != nil || !e.Result.Promoted || e.Result.Existing.Batch != "b" {
			t.Errorf("%+v", e)
		}
	}
	for _, batch := range []*tasks.Batch{b, other} {
		if err := batch.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	urgent, waiting := rdb.LLen(t.Context(), "asynq:{"+urgentQueue+"}:pending").Val(), rdb.LLen(t.Context(), "asynq:{"+bulkQueue+"}:pending").Val()
	if urgent != rows || waiting != 0 {
		t.Errorf("%d urgent, %d bulk", urgent, waiting)
	}
	wantSums(t, rdb, "b", map[string]int{"total": rows, "open": rows})
	wantSums(t, rdb, "other", map[string]int{"total": rows, "duplicate": rows})
}
