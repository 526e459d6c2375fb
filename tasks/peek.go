package tasks

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Peek tells what [Producer.Enqueue] would do with recalls now, and writes nothing. The recalls have passed [Resolve]; some
// hundred at a time take two round trips. One that is among them twice is not told apart. The answers are in the
// order of the recalls.
func Peek(ctx context.Context, rdb redis.Cmdable, pr Priority, recalls []Recall) ([]Result, error) {
	pairs := make([][2]copyOf, len(recalls)) // the own queue's copy, and the other's
	for i, r := range recalls {
		id := r.ID()
		pairs[i] = [2]copyOf{{queue: Queue(r.Provider, r.App, pr), id: id}, {queue: Queue(r.Provider, r.App, pr.other()), id: id}}
	}
	if err := lookAll(ctx, rdb, pairs); err != nil {
		return nil, fmt.Errorf("looking for %d recalls in their queues: %w", len(recalls), err)
	}
	results := make([]Result, len(recalls))
	for i, r := range recalls {
		own, other := pairs[i][0], pairs[i][1]
		res := Result{ID: own.id, Status: Enqueued, App: r.App, RecallBy: r.RecallBy, Queue: own.queue}
		results[i] = foretell(res, own, other, pr)
	}
	return results, nil
}

// foretell is what put and place come to.
func foretell(res Result, own, other copyOf, pr Priority) Result {
	switch v := other.verdict(); {
	case v == settled, v == waiting && pr == Bulk:
		return res.duplicate(other)
	case v == waiting:
		res = res.duplicate(other)
		res.Queue, res.Promoted = own.queue, true
		return res
	case v == failed:
		res.Replaced, res.Existing = true, other.existing()
	}
	switch own.verdict() {
	case settled, waiting:
		return res.duplicate(own)
	case failed:
		res.Replaced, res.Existing = true, own.existing()
	}
	return res
}

// lookAll reads the copies that there are: most recalls have none, so it first asks which have.
func lookAll(ctx context.Context, rdb redis.Cmdable, pairs [][2]copyOf) error {
	there := make([][2]*redis.IntCmd, len(pairs))
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, pair := range pairs {
			for n, c := range pair {
				there[i][n] = pipe.Exists(ctx, TaskKey(c.queue, c.id))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	fields := make(map[*copyOf]*redis.SliceCmd)
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range pairs {
			for n := range pairs[i] {
				if c := &pairs[i][n]; there[i][n].Val() > 0 {
					fields[c] = pipe.HMGet(ctx, TaskKey(c.queue, c.id), looked...)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for c, cmd := range fields {
		*c = readCopy(c.queue, c.id, cmd.Val())
	}
	return nil
}
