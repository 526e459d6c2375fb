package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/tasks"
)

// Backlog is what waits in a lane.
type Backlog struct {
	Tasks int64 // waiting, or to be tried again
	// Takes is how long the lane needs for them, and for those that are being worked on, at its limits, after the calls that these
	// count already; zero if it has none.
	Takes time.Duration
	// NextExpiry is when the first window of a recall that waits closes, to within [tasks.DueStep]; zero if nothing waits. Among
	// more than a million it may be earlier, when that of one that has ended does.
	NextExpiry time.Time
}

// Backlog reads what waits in both of the lane's queues. To find the next expiry it may have to look through all of it, which
// takes some seconds for a million; it then keeps what it has found for a minute, also for the lane's other workers and for
// [ReadStatus].
func (l *Lane) Backlog(ctx context.Context) (Backlog, error) {
	limits := l.terms.Load().limits
	hold, err := l.Hold(ctx)
	if err != nil {
		return Backlog{}, err
	}
	r, err := readLane(ctx, l.rdb, tasks.Lane{Provider: l.opt.Provider, App: l.opt.App, Limits: limits})
	if err != nil {
		return Backlog{}, err
	}
	now := l.now()
	s := r.status(now)
	s.Hold = hold
	look := lookout{rdb: l.rdb, queues: r.queues, now: now, rest: takeTurns}
	b := Backlog{Tasks: look.waiting()}
	if n := s.Waiting(); n > 0 && len(limits) > 0 {
		b.Takes = max(NewSchedule(limits, s.Opens(now), s.Made).Skip(n).Sub(now), 0)
	}
	if b.NextExpiry, err = l.nextExpiry(ctx, look, readFinding(r.state[fieldExpiry])); err != nil {
		return Backlog{}, fmt.Errorf("read the backlog of %s: %w", l.Name(), err)
	}
	return b, nil
}

func (l *Lane) nextExpiry(ctx context.Context, look lookout, known finding) (time.Time, error) {
	waiting := look.waiting()
	switch {
	case waiting == 0:
		return time.Time{}, nil
	case waiting > lookMost:
		return look.told(), nil
	case waiting > lookAlways && known.fresh(look.now, lookKept):
		if old, err := look.outdated(ctx, known); err != nil || !old {
			return fromMillis(known.Next), err
		}
	}
	before, err := look.times(ctx)
	if err != nil {
		return time.Time{}, err
	}
	at, err := look.through(ctx)
	if err != nil || at.IsZero() {
		return at, err
	}
	return at, l.found(ctx, look, at, before)
}

// times is how many times are told.
func (o lookout) times(ctx context.Context) (int64, error) {
	pipe := o.rdb.Pipeline()
	var counts []*redis.IntCmd
	for _, q := range o.queues {
		counts = append(counts, pipe.ZCard(ctx, tasks.DueKey(q.name)))
	}
	_, err := pipe.Exec(ctx)
	var n int64
	for _, c := range counts {
		n += c.Val()
	}
	return n, err
}

// found keeps what a look has found. before is how many times were told when it began: what was told meanwhile may be about
// recalls that it has not seen, and has the next look come sooner.
func (l *Lane) found(ctx context.Context, look lookout, at time.Time, before int64) error {
	after, err := look.times(ctx)
	if err != nil {
		return err
	}
	f := finding{Looked: look.now.UnixMilli(), Next: at.UnixMilli()}
	told, err := look.toldBefore(ctx, f)
	if err != nil {
		return err
	}
	f.Told = told - max(after-before, 0)
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return l.rdb.HSet(ctx, l.keys[0], fieldExpiry, text).Err()
}
