package worker

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

const (
	// endersAtOnce is how many recalls of a lane without a worker are ended at a time.
	endersAtOnce = 8
	// never is for what asynq's server is not to do.
	never = 365 * 24 * time.Hour
)

// ender ends recalls of one queue of a lane that no worker serves.
type ender struct {
	station *station
	handler *handler
}

func (w *Worker) newEnder(provider, app string, p tasks.Priority) *ender {
	spec, _ := providers.Lookup(provider)
	s := w.bareStation(Lane{Spec: spec, App: app})
	return &ender{s, &handler{station: s, dequeuer: lane.NewEnder(w.opt.Queue, s.lane, p, w.stop), priority: p, unserved: true}}
}

// sweepUnserved ends what is too late or cancelled in queues of lanes that no worker has been seen to serve for a minute, since
// nobody else does. Everything else in them is left as it is.
func (w *Worker) sweepUnserved(ctx context.Context) {
	if err := w.findUnserved(ctx); err != nil {
		w.opt.Log.Debug().Err(err).Msg("nobody looked for lanes without a worker")
		return
	}
	if len(w.unserved) == 0 {
		return
	}
	cancelled, err := w.ledger.Cancelled(ctx, w.clock(ctx))
	if err != nil {
		w.opt.Log.Debug().Err(err).Msg("nobody looked for recalls of cancelled batches")
	}
	for queue, e := range w.unserved {
		d := e.handler.dequeuer
		n, err := d.SweepUnserved(ctx, w.concerning(ctx, e.station.lane.Name(), cancelled))
		if err != nil {
			e.station.log.Debug().Err(err).Msg("nobody looked for recalls that are too late")
		}
		if n == 0 {
			continue
		}
		e.station.log.Info().Str("queue", queue).Int("recalls", n).Msg("recalls of a lane without a worker are ended, too late or cancelled")
		if err := w.endFound(ctx, e); err != nil {
			e.station.log.Debug().Err(err).Msg("recalls of a lane without a worker are not ended yet")
		}
	}
}

// sweepingUnserved looks once which lanes there are, and sweeps again and again.
func (w *Worker) sweepingUnserved() {
	ctx, cancel := context.WithTimeout(context.Background(), unservedEvery)
	if err := w.findUnserved(ctx); err != nil {
		w.opt.Log.Debug().Err(err).Msg("nobody looked for lanes without a worker")
	}
	cancel()
	w.sweeping(unservedEvery, nil, w.sweepUnserved)
}

// findUnserved brings the list of unserved queues up to date.
func (w *Worker) findUnserved(ctx context.Context) error {
	now, err := w.opt.Redis.Time(ctx).Result()
	if err != nil {
		return err
	}
	queues, err := w.opt.Redis.SMembers(ctx, tasks.QueuesKey).Result()
	if err != nil {
		return err
	}
	lanes, err := w.published(ctx)
	if err != nil {
		return err
	}
	w.known.Store(&lanes)
	found := map[string]*ender{}
	for _, queue := range queues {
		provider, app, p, ours := tasks.ParseQueue(queue)
		if ours { // long before any of them may have to be ended here
			w.opt.Metrics.Outcomes(provider, app)
		}
		l, known := lanes[provider+":"+app]
		left := !known || l != nil && !l.Served(now)
		if !ours || !left || w.station(provider, app) != nil {
			continue
		}
		if found[queue] = w.unserved[queue]; found[queue] == nil {
			found[queue] = w.newEnder(provider, app, p)
		}
		found[queue].station.lane.SetClock(now)
	}
	w.unserved = found
	return nil
}

// published reads the lanes that workers have published, by name. One that cannot be read is nil: a newer worker may have
// written it, so nobody knows whether it is served. That is told once for each, and keeps nobody from the others.
func (w *Worker) published(ctx context.Context) (map[string]*tasks.Lane, error) {
	texts, err := w.opt.Redis.HGetAll(ctx, tasks.LanesKey).Result()
	if err != nil {
		return nil, err
	}
	lanes := map[string]*tasks.Lane{}
	for name, text := range texts {
		l := &tasks.Lane{}
		err := json.Unmarshal([]byte(text), l)
		if err == nil {
			lanes[name] = l
			continue
		}
		lanes[name] = nil
		if !w.unreadable[name] {
			w.unreadable[name] = true
			w.opt.Log.Warn().Str("lane", providers.Line(name, providers.MaxMessage)).Str("error", providers.Line(err.Error(), providers.MaxMessage)).
				Msg("a published lane cannot be read, its queues are left alone")
		}
	}
	return lanes, nil
}

// concerning are the batches that may have recalls in a lane.
func (w *Worker) concerning(ctx context.Context, name string, batches []string) []string {
	var found []string
	for _, batch := range batches {
		b, err := w.ledger.Batch(ctx, batch)
		if lanes := b.Lanes(); err == nil && (len(lanes) == 0 || slices.Contains(lanes, name)) {
			found = append(found, batch)
		}
	}
	return found
}

// endFound ends the recalls that a sweep has found, by a server that does nothing else and is there no longer than it takes.
func (w *Worker) endFound(ctx context.Context, e *ender) error {
	d := e.handler.dequeuer
	defer d.Forget()
	server := asynq.NewServerFromRedisClient(d, asynq.Config{
		Concurrency:              endersAtOnce,
		Queues:                   map[string]int{d.Queue(): 1},
		TaskCheckInterval:        emptyPause,
		DelayedTaskCheckInterval: never,
		JanitorInterval:          never,
		RetryDelayFunc:           retryDelay,
		IsFailure:                isFailure,
		ShutdownTimeout:          stopGrace,
		Logger:                   logger{e.station.log},
		LogLevel:                 asynq.WarnLevel,
	})
	if err := server.Start(e.handler); err != nil {
		return err
	}
	defer server.Shutdown()
	poll := time.NewTicker(lane.EndPoll)
	defer poll.Stop()
	for d.Found() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.stop:
			return nil
		}
	}
	return nil
}
