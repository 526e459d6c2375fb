package lane

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

func clock(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateTime, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestScheduleOfRongCloud(t *testing.T) {
	t.Parallel()
	spec, _ := providers.Lookup(providers.RongCloud)
	from := clock(t, "2026-11-20 13:30:00") // 21:30 in Shanghai
	s := NewSchedule(spec.Limits, from, []time.Time{clock(t, "2026-11-20 13:10:00")})
	var got []string
	for range 8 {
		got = append(got, s.Take().UTC().Format(time.DateTime))
	}
	want := []string{
		"2026-11-20 13:30:00", "2026-11-20 14:10:00", // the third of the day
		"2026-11-20 16:00:01", "2026-11-20 16:00:01", "2026-11-20 17:00:01", // Shanghai's midnight
		"2026-11-21 16:00:01", "2026-11-21 16:00:01", "2026-11-21 17:00:01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestScheduleAcrossAClockChange(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	limits := []providers.Limit{{Calls: 1, Day: true, TimeZone: zone}}
	s := NewSchedule(limits, time.Date(2026, 3, 28, 12, 0, 0, 0, zone), nil)
	var got []string
	for range 3 {
		got = append(got, s.Take().In(zone).Format(time.RFC3339))
	}
	want := []string{"2026-03-28T12:00:00+01:00", "2026-03-29T00:00:01+01:00", "2026-03-30T00:00:01+02:00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestScheduleOfManyCalls(t *testing.T) {
	t.Parallel()
	from := clock(t, "2026-11-20 12:00:00")
	s := NewSchedule([]providers.Limit{{Calls: 100, Per: time.Second}}, from, nil)
	if got := s.Skip(1_000_000).Sub(from); got != 9999*time.Second {
		t.Errorf("a million calls at 100 per second end after %s", got)
	}
	if got := NewSchedule(nil, from, nil).Skip(1 << 60); !got.Equal(from) {
		t.Errorf("without limits the last call is at %s", got)
	}
}

// Skipping has to come to what taking the slots one by one comes to, whatever the limits and the calls before.
func TestScheduleSkipsAsItTakes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	periods := []providers.Limit{{Per: time.Second}, {Per: time.Minute}, {Per: time.Hour}, {Day: true}, {Day: true, TimeZone: providers.Shanghai()}}
	for range 1000 {
		var limits []providers.Limit
		for i, l := range periods {
			second := slices.ContainsFunc(limits, func(have providers.Limit) bool { return have.Day && l.Day }) // refused by the configuration
			if second || random.IntN(2) == 0 {
				continue
			}
			l.Calls = 1 + random.IntN([]int{20, 300, 500, 500, 500}[i])
			limits = append(limits, l)
		}
		from := clock(t, "2026-11-20 12:00:00").Add(time.Duration(random.Int64N(int64(48 * time.Hour))))
		made := make([]time.Time, random.IntN(50))
		for i := range made {
			made[i] = from.Add(-time.Duration(random.Int64N(int64(3 * time.Hour))))
		}
		n := 1 + random.Int64N(10_000)
		one := NewSchedule(limits, from, made)
		one.walk(n - 1)
		want := one.Take()
		if got := NewSchedule(limits, from, made).Skip(n); !got.Equal(want) {
			t.Fatalf("%v, %d made, %d calls: %s, want %s", limits, len(made), n, got, want)
		}
	}
}

func TestScheduleOfMoreCallsThanThereIsTimeFor(t *testing.T) {
	t.Parallel()
	spec, _ := providers.Lookup(providers.RongCloud)
	from := clock(t, "2026-11-20 12:00:00")
	if got := NewSchedule(spec.Limits, from, nil).Skip(1 << 60); got.Year() < 9999 {
		t.Errorf("the last call is at %s", got)
	}
	if got := NewSchedule(spec.Limits, from, nil).Skip(3_000_000).Year(); got < 4700 || got > 4800 { // a million days
		t.Errorf("the last call is in the year %d", got)
	}
}

// TestScheduleAgreesWithTheGate lets calls through at the times that are foretold, and none before.
func TestScheduleAgreesWithTheGate(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		limits := []providers.Limit{{Calls: 2, Per: 300 * time.Millisecond}, {Calls: 3, Per: time.Second}}
		l := New(rdb, Options{Provider: "timpush", App: "chat", Fingerprint: "f", Limits: limits, Timeout: time.Second, Instance: "p"})
		s := NewSchedule(limits, time.Now(), nil)
		for range 6 {
			foretold := s.Take()
			pass, err := l.Enter(t.Context(), nil, Ask{Urgent: true})
			if err != nil {
				t.Fatal(err)
			}
			if pass.Began.Before(foretold.Add(-5 * time.Millisecond)) {
				t.Errorf("let through %s before the time foretold", foretold.Sub(pass.Began))
			}
			if late := pass.Began.Sub(foretold); late > 500*time.Millisecond {
				t.Errorf("let through %s after the time foretold", late)
			}
			if _, err := l.Settle(t.Context(), pass, Settlement{Class: OK, Written: true}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, rdb *redis.Client) {
		ctx := t.Context()
		published := tasks.Lane{Provider: "jiguang", App: "news", Window: time.Hour, Limits: []providers.Limit{{Calls: 2, Per: time.Minute}}}
		read := func() Status {
			s, err := ReadStatus(ctx, rdb, published, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		quiet := Status{Urgent: Queue{Name: "jiguang:news"}, Bulk: Queue{Name: "jiguang:news:bulk"}}
		if diff := cmp.Diff(quiet, read()); diff != "" {
			t.Errorf("a lane that nobody has used: %s", diff)
		}

		// Held by the credentials of before: on record for ever, and binding nobody.
		hold(t, rdb, "old", "4005 wrong secret")
		if h := read().Hold; h != (Hold{}) {
			t.Errorf("held by credentials that are no longer used: %+v", h)
		}
		time.Sleep(2 * time.Millisecond) // holds are told apart by their times
		h := hold(t, rdb, "new", "1004 wrong key")
		published.Hold, published.HoldUntil = h.Reason, h.Until
		got := read()
		if got.Hold.Says != "1004 wrong key" || !got.Hold.Until.Equal(h.Until) || time.Since(got.Hold.Since) > time.Minute {
			t.Errorf("hold %+v, want %+v", got.Hold, h)
		}
		if opens := got.Opens(time.Now()); !opens.Equal(h.Until) {
			t.Errorf("opens at %s, want %s", opens, h.Until)
		}
		if len(got.Made) != 2 {
			t.Errorf("%d calls are known, want the 2 of the hold's probes", len(got.Made))
		}
		if s := NewSchedule(published.Limits, time.Now(), got.Made); time.Until(s.Next()) < 50*time.Second {
			t.Errorf("the next call is at %s, but the minute is used up", s.Next())
		}

		// Throttled.
		l := New(rdb, Options{Provider: "jiguang", App: "news", Fingerprint: "new", Instance: "x"})
		if err := l.Throttle(ctx, time.Now(), retry.Lane{Wait: retry.Schedule{First: 20 * time.Second, Max: time.Minute}}); err != nil {
			t.Fatal(err)
		}
		if until := time.Until(read().Throttled); until < 15*time.Second || until > 21*time.Second {
			t.Errorf("throttled for %s", until)
		}

		// Queues.
		if err := tasks.PublishLane(ctx, rdb, published); err != nil {
			t.Fatal(err)
		}
		enqueue(t, ctx, rdb, "A", tasks.Urgent)
		enqueue(t, ctx, rdb, "B", tasks.Bulk)
		enqueue(t, ctx, rdb, "C", tasks.Bulk)
		if err := asynq.NewInspectorFromRedisClient(rdb).PauseQueue("jiguang:news:bulk"); err != nil {
			t.Fatal(err)
		}
		got = read()
		if got.Urgent.Pending != 1 || got.Bulk.Pending != 2 || got.Waiting() != 3 || got.Urgent.Paused || !got.Bulk.Paused {
			t.Errorf("queues %+v, %+v", got.Urgent, got.Bulk)
		}
		if time.Since(got.Bulk.PausedSince) > time.Minute {
			t.Errorf("paused since %s", got.Bulk.PausedSince)
		}
		if left := time.Until(got.NextExpiry); left < 55*time.Minute || left > time.Hour+tasks.DueStep {
			t.Errorf("the next window closes in %s", left)
		}

		// Away: whatever the credentials.
		if err := rdb.HSet(ctx, "recallq:lane:{jiguang:news}", "hold:any", `{"reason":"unavailable","says":"HTTP 503","since":1,"next":2}`).Err(); err != nil {
			t.Fatal(err)
		}
		if h := read().Hold; h.Reason != "unavailable" || h.Says != "HTTP 503" {
			t.Errorf("hold %+v", h)
		}
	})
}

// hold holds the lane for credentials, as a worker does, and returns what it then reads of it.
func hold(t *testing.T, rdb *redis.Client, fingerprint, says string) Hold {
	t.Helper()
	l := New(rdb, Options{
		Provider: "jiguang", App: "news", Fingerprint: fingerprint, Instance: fingerprint, Timeout: time.Second,
		Limits: []providers.Limit{{Calls: 1000, Per: time.Minute}},
	})
	pass, err := l.Enter(t.Context(), nil, Ask{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Settle(t.Context(), pass, Settlement{
		Class: Refused, Written: true, Says: says,
		Lane: retry.Lane{Close: retry.Hold, HoldReason: providers.Credentials, Wait: retry.Schedule{First: 30 * time.Second, Max: time.Minute}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Hold(t.Context())
	if err != nil || h.Reason == "" {
		t.Fatalf("hold %+v, %v", h, err)
	}
	return h
}

func enqueue(t *testing.T, ctx context.Context, rdb *redis.Client, id string, p tasks.Priority) {
	t.Helper()
	r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: id, SentAt: time.Now()}
	if _, err := tasks.NewProducer(rdb).Enqueue(ctx, r, tasks.WithPriority(p)); err != nil {
		t.Fatal(err)
	}
}

func TestScheduleOrder(t *testing.T) {
	t.Parallel()
	from := clock(t, "2026-11-20 12:00:00")
	limits := []providers.Limit{{Calls: 1, Per: time.Minute}}
	made := []time.Time{from.Add(-10 * time.Second), from.Add(-70 * time.Second)} // latest first, as they are read
	if got := NewSchedule(limits, from, made).Next(); !got.Equal(from.Add(50 * time.Second)) {
		t.Errorf("next %s", got)
	}
	if !slices.IsSortedFunc(made, func(a, b time.Time) int { return b.Compare(a) }) {
		t.Error("the caller's times were sorted")
	}
}

// A queue that cannot be read is not an empty one. That the other is not paused is no error.
func TestAQueueThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_ = w.mr.Set("asynq:{timpush:chat:bulk}:pending", "no list")
	if s, err := ReadBrief(t.Context(), w.rdb, tasks.Lane{Provider: "timpush", App: "chat"}, w.now); err == nil {
		t.Errorf("read as %+v", s)
	}
}
