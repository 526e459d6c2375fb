package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/tasks"
)

const (
	// fullPercent is how full Redis may be, of its maxmemory: the workers need room as well, to write how recalls ended.
	fullPercent = 80
	// memoryEvery is how often that is looked at while recalls are enqueued.
	memoryEvery = time.Second
)

// How much of Redis's memory one recall takes, measured with asynq v0.26 on Redis 7.0: its payload, which Redis stores a
// quarter larger, with asynq's and the batch's own; and when it has ended, until its retention is over, its result and its
// entry in the stream of outcomes. A test measures it again.
const (
	recallBytes = 520
	endedBytes  = 440
)

// memoryOf is how much of Redis's memory a recall takes while it waits.
func memoryOf(r tasks.Recall, batch string) int64 {
	r.EnqueuedAt, r.Seq, r.Batch = r.RecallBy, 1_000_000, batch
	payload, err := r.Encode()
	if err != nil {
		return recallBytes
	}
	return recallBytes + int64(len(payload))*5/4
}

// checkRedis warns of a Redis that may lose recalls, and refuses one that is nearly full.
func (e *enqueuing) checkRedis(ctx context.Context) error {
	report, err := redisconn.Inspect(ctx, e.rdb)
	if err != nil {
		return failure(fmt.Errorf("%s: %s", e.where, sayInspect(err)))
	}
	for _, w := range report.Warnings {
		if w.Loss || w.Short || e.set.yes { // the other one is about memory, and refused otherwise
			e.console.say("warning: %s", w)
		}
	}
	e.bounded = report.MaxMemory > 0
	return e.refuseFull(report)
}

// sayInspect leaves what [redisconn.Inspect] says itself as it is.
func sayInspect(err error) string {
	if text := err.Error(); strings.HasPrefix(text, "redis ") {
		return text
	}
	return sayRedis(err)
}

func isFull(r redisconn.Report) bool {
	return r.MaxMemory > 0 && r.UsedMemory > r.MaxMemory/100*fullPercent
}

func (e *enqueuing) refuseFull(r redisconn.Report) error {
	if e.set.yes || !isFull(r) {
		return nil
	}
	if r.UsedMemory >= r.MaxMemory {
		return failure(fmt.Errorf("%s: redis is full and refuses writes: it has used %s of its %s; free memory, or raise maxmemory",
			e.where, bytesOf(r.UsedMemory), bytesOf(r.MaxMemory)))
	}
	return failure(fmt.Errorf("%s: redis has used %s of its %s, more than %d %%; free memory, raise maxmemory, or add --yes",
		e.where, bytesOf(r.UsedMemory), bytesOf(r.MaxMemory), fullPercent))
}

// watchMemory looks again and again while recalls are enqueued, and ends the run when Redis gets full.
func (e *enqueuing) watchMemory(ctx context.Context, stop context.CancelCauseFunc) {
	if !e.bounded || e.set.yes {
		return
	}
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		report, err := redisconn.Inspect(ctx, e.rdb)
		if err != nil {
			continue // those who write will notice
		}
		var full *ended
		if errors.As(e.refuseFull(report), &full) {
			stop(full)
			return
		}
	}
}

// bytesOf says an amount of memory.
func bytesOf(n int64) string {
	const kib = 1 << 10
	amount, unit := float64(n)/kib, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if amount < kib {
			break
		}
		amount, unit = amount/kib, next
	}
	if amount < 100 {
		return fmt.Sprintf("%.1f %s", amount, unit)
	}
	return fmt.Sprintf("%.0f %s", amount, unit)
}
