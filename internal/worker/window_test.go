package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/tasks"
)

// A recall that waits behind a closed lane ends in time, without a call and with the reason, whatever keeps the lane closed.
func TestWhatWaitsBehindAClosedLaneExpiresWithoutACall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		close func(b *bench)
		says  string
	}{
		{"held", func(b *bench) {
			b.vendor.answers("first", refused)
			b.enqueue("first", time.Now())
			<-b.vendor.called
			b.until(func() bool { return strings.Contains(b.logged(), `"lane closed"`) })
		}, "credentials"},
		{"paused by a person", func(b *bench) {
			if err := asynq.NewInspectorFromRedisClient(b.rdb).PauseQueue("timpush:app"); err != nil {
				b.t.Fatal(err)
			}
		}, "paused"},
		{"out of slots", func(b *bench) {
			b.enqueue("first", time.Now())
			<-b.vendor.called
			b.until(func() bool {
				n, _ := b.rdb.ZCard(b.t.Context(), "recallq:lane:{timpush:app}:calls").Result()
				return n == 1
			})
		}, "limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mr := miniredis.RunT(t)
			rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
			t.Cleanup(func() { _ = rdb.Close() })
			b := newBench(t, providers.TIMPush, rdb)
			b.lane.Limits = nil
			if c.name == "out of slots" {
				b.lane.Limits = []providers.Limit{{Calls: 1, Per: 10 * time.Hour}}
				b.vendor.wire = true
			}
			w := New(Options{Redis: rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
			if err := w.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Stop)
			c.close(b)
			res := b.enqueue("late", time.Now().Add(5*time.Second-24*time.Hour))
			mr.SetTime(time.Now().Add(25 * time.Second)) // the hold lasts 30 s
			b.until(func() bool {
				w.sweep(t.Context())
				n, _ := rdb.ZCard(t.Context(), "asynq:{timpush:app}:archived").Result()
				return n == 1
			})
			info := b.info(res, asynq.TaskStateArchived)
			if !strings.HasPrefix(info.LastErr, "expired: ") || !strings.Contains(info.LastErr, c.says) {
				t.Errorf("archived with %q, want expired and %q", info.LastErr, c.says)
			}
			if n := b.vendor.count("late"); n != 0 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// RongCloud allows two recalls an hour and three a calendar day in China. Two days go by in steps of five minutes.
func TestRongCloudsLimitsHoldForTwoDays(t *testing.T) {
	t.Parallel()
	start := time.Now().Truncate(time.Hour)
	now := start
	mr := miniredis.RunT(t)
	mr.SetTime(now)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	sim, err := simulator.New(simulator.Options{ClockOffset: time.Until(now)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	srv, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	client, err := rongcloud.New(rongcloud.Config{AppKey: "uwd1c0sxdlx2", AppSecret: "Y1W2MeFwwwRxa0"}, providers.Options{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, providers.RongCloud, rdb)
	b.lane.Provider, b.lane.Limits = client, b.lane.Spec.Limits
	w := New(Options{Redis: rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	producer := tasks.NewProducer(rdb, tasks.WithClock(func() time.Time { return now }))
	const each = 6 // a day: twice as many as the vendor takes
	sent := 0
	enqueue := func() {
		t.Helper()
		for range each {
			sent++
			_, err := producer.Enqueue(t.Context(), tasks.Recall{
				Provider: "rongcloud", App: "app", From: "service", SentAt: now.Add(-time.Hour),
				MessageID: fmt.Sprintf("0000-0000-0000-%04d", sent),
			}, tasks.AllowUnserved())
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	enqueue()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	const step = 5 * time.Minute
	for at := step; at <= 49*time.Hour; at += step {
		if at == 24*time.Hour {
			enqueue()
		}
		now = start.Add(at)
		sim.Advance(step) // the vendor's clock is never behind ours
		mr.SetTime(now)
		// asynq's retries run on the machine's clock, which stands still here.
		if _, err := inspector.RunAllRetryTasks("rongcloud:app"); err != nil {
			t.Fatal(err)
		}
		w.stations[0].lane.Wake()
		w.sweep(t.Context())
		quiet(b)
	}
	violations := 0
	perDay := map[string]int{}
	for c := range sim.Calls() {
		if c.Violation != "" {
			violations++
		}
		perDay[c.Clock.In(providers.Shanghai()).Format(time.DateOnly)]++
	}
	if violations > 0 {
		t.Errorf("%d calls broke the vendor's limits", violations)
	}
	most := 0
	for _, n := range perDay {
		most = max(most, n)
	}
	if most != 3 {
		t.Errorf("calls a day %v, want three on a full day", perDay)
	}
	ended := b.outcomes(sent)
	expired := 0
	for id, e := range ended {
		switch e["outcome"] {
		case tasks.Expired:
			expired++
			if e["error"] == "" {
				t.Errorf("%s expired without a reason", id)
			}
		case tasks.Recalled:
		default:
			t.Errorf("%s ended as %v", id, e)
		}
	}
	if expired == 0 {
		t.Error("none expired: more were enqueued than the vendor takes")
	}
	t.Logf("%d recalled on the days %v, %d expired", sent-expired, perDay, expired)
}

// quiet waits until nobody works on a recall and the lane has nothing to do at this time of its clock.
func quiet(b *bench) {
	b.t.Helper()
	calm := 0
	b.until(func() bool {
		active, _ := b.rdb.LLen(b.t.Context(), "asynq:{rongcloud:app}:active").Result()
		if active > 0 {
			calm = 0
			return false
		}
		calm++
		return calm > 3
	})
}

// RongCloud has not enabled broadcasting for the account and says 1008 for days. After a day the lane is held for credentials, so
// that somebody is told; nothing is lost by it, and no call more is made than the limits give.
func TestRongCloudsThrottlingThatLastsForADayIsTold(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	mr := miniredis.RunT(t)
	mr.SetTime(start)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	const id = "0000-0000-0000-0001"
	b := newBench(t, providers.RongCloud, rdb)
	b.lane.Limits, b.lane.Window, b.vendor.wire = b.lane.Spec.Limits, 80*time.Hour, true
	b.vendor.answers(id, slices.Repeat([]*providers.Fault{{Kind: providers.Throttled, Code: "1008", Message: "too frequent"}}, 7)...)
	w := New(Options{Redis: rdb, Lanes: []Lane{b.lane}, Instance: "w", Metrics: metrics.New(), Log: zerolog.New(b)})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	producer := tasks.NewProducer(rdb, tasks.WithClock(func() time.Time { return start }))
	if _, err := producer.Enqueue(t.Context(), tasks.Recall{Provider: "rongcloud", App: "app", From: "service", SentAt: start, MessageID: id}); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	const step = 10 * time.Minute
	held, perDay := time.Duration(0), map[string]int{}
	for at := step; at <= 60*time.Hour; at += step {
		before := b.vendor.count(id)
		mr.SetTime(start.Add(at))
		// asynq's retries run on the machine's clock, which stands still here.
		if _, err := inspector.RunAllRetryTasks("rongcloud:app"); err != nil {
			t.Fatal(err)
		}
		w.stations[0].lane.Wake()
		for _, srv := range w.stations[0].servers {
			srv.dequeuer.Wake()
		}
		quiet(b)
		perDay[start.Add(at).In(providers.Shanghai()).Format(time.DateOnly)] += b.vendor.count(id) - before
		if err := w.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held == 0 && w.stations[0].hold.Load().Reason == "credentials" {
			held = at
		}
	}
	if held < 24*time.Hour || held > 48*time.Hour {
		t.Errorf("held for credentials after %v", held)
	}
	for date, n := range perDay {
		if n > 3 {
			t.Errorf("%d calls on %s", n, date)
		}
	}
	if e := b.outcomes(1)[id]; e["outcome"] != tasks.Recalled {
		t.Errorf("ended as %v, with the calls %v", e, perDay)
	}
	if r := w.stations[0].hold.Load().Reason; r != "" {
		t.Errorf("still held: %s", r)
	}
	if n := strings.Count(b.logged(), `"reason":"credentials"`); n != 2 { // closed, and open again
		t.Errorf("%d lines on the hold:\n%s", n, b.logged())
	}
	if n := strings.Count(b.logged(), "too frequent; no other answer for a day"); n != 1 {
		t.Errorf("%d lines explain the hold:\n%s", n, b.logged())
	}
}
