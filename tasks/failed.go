package tasks

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// FailureIn returns what a batch knows of the failure of a recall, by its task id; false if it has none. It is known there
// longer than its task is kept.
func FailureIn(ctx context.Context, rdb redis.Cmdable, batch, id string) (Failure, bool, error) {
	seq, err := numberIn(ctx, rdb, batch, id)
	var text string
	if err == nil {
		text, err = rdb.HGet(ctx, BatchFailuresKey(batch), strconv.FormatInt(seq, 10)).Result()
	}
	if errors.Is(err, redis.Nil) {
		return Failure{}, false, nil
	}
	var f Failure
	if err == nil {
		err = f.UnmarshalJSON([]byte(text))
	}
	if err != nil {
		return Failure{}, false, fmt.Errorf("looking for %s in the batch %s: %w", id, batch, err)
	}
	f.Recall.Batch, f.Recall.Seq = batch, seq
	return f, f.ID == id, nil
}
