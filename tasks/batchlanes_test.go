package tasks_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

func TestABatchKnowsItsLanes(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	b := openBatch(t, realProducer(t, rdb), "b")
	for _, id := range []string{"A1", "A2"} {
		add(t, b, id)
	}
	res := add(t, b, "A1")
	known, err := rdb.HExists(t.Context(), tasks.BatchKey("b"), tasks.LaneField+"jiguang:"+res.App).Result()
	if err != nil || !known {
		t.Errorf("the lane is known: %v, %v", known, err)
	}
}
