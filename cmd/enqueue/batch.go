package main

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// batchKept is how long a batch is kept after its latest recall_by.
const batchKept = 7 * 24 * time.Hour

// timeLayout is how times are written in Redis and shown as JSON.
const timeLayout = "2006-01-02T15:04:05.000Z"

func batchKey(name string) string { return "recallq:batch:{" + name + "}" }

// newBatchName makes up a name that sorts by time and is short enough to be typed.
func newBatchName(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:4])
}

// noteBatch writes who enqueues and why. A batch takes any number of inputs, so what was written first stays; a reason that
// comes later fills an empty place.
func noteBatch(ctx context.Context, rdb redis.Cmdable, name, by, reason string, now time.Time) error {
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSetNX(ctx, batchKey(name), "created_by", by)
		pipe.HSetNX(ctx, batchKey(name), "created_at", now.UTC().Format(timeLayout))
		if reason != "" {
			pipe.HSetNX(ctx, batchKey(name), "reason", reason)
		}
		return nil
	})
	return err
}

// keepBatch keeps a batch for as long as its latest recall_by asks for. EXPIRE's GT does not shorten an earlier run's time
// but leaves a key without one alone, which NX covers.
func keepBatch(ctx context.Context, rdb redis.Cmdable, name string, latest, now time.Time) error {
	keep := latest.Add(batchKept).Sub(now)
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ExpireNX(ctx, batchKey(name), keep)
		pipe.ExpireGT(ctx, batchKey(name), keep)
		return nil
	})
	return err
}
