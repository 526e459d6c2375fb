package tasks_test

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func TestLaneOnTheWire(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	plain := tasks.Lane{Provider: "jiguang", App: "news", Window: 24 * time.Hour, LastSeen: now}
	full := tasks.Lane{
		Provider: "rongcloud", App: "community", Window: 90 * time.Minute,
		Limits: []providers.Limit{{Calls: 2, Per: time.Hour}, {Calls: 3, Day: true, TimeZone: providers.Shanghai()}, {Calls: 1, Per: 1500 * time.Millisecond}},
		Hold:   "credentials", HoldUntil: now.Add(time.Minute), Simulated: true, HasDefaultText: true, Retention: 48 * time.Hour, Account: "rong:1", LastSeen: now,
	}
	for _, l := range []tasks.Lane{full, plain} {
		if err := tasks.PublishLane(t.Context(), rdb, l); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"jiguang:news": `{"provider":"jiguang","app":"news","window":"24h","limits":[],"hold":"","simulated":false,"last_seen":"2026-11-20T12:00:00.000Z"}`,
		"rongcloud:community": `{"provider":"rongcloud","app":"community","window":"1h30m","limits":[{"calls":2,"per":"1h"},` +
			`{"calls":3,"per":"day","time_zone":"Asia/Shanghai"},{"calls":1,"per":"1.5s"}],"hold":"credentials","hold_until":"2026-11-20T12:01:00.000Z",` +
			`"simulated":true,"default_text":true,"retention":"48h","account":"rong:1","last_seen":"2026-11-20T12:00:00.000Z"}`,
	}
	got, err := rdb.HGetAll(t.Context(), tasks.LanesKey).Result()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	back, err := tasks.Lanes(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	sameZone := cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })
	if diff := cmp.Diff([]tasks.Lane{plain, full}, back, sameZone); diff != "" {
		t.Error(diff)
	}
}

// What does not look like a worker's is no lane: its parts are shown to people, and reckoned with.
func TestALaneOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	good := `{"provider":"jiguang","app":"news","window":"24h","limits":[{"calls":1,"per":"day","time_zone":"Asia/Shanghai"}],"hold":"credentials","last_seen":""}`
	var l tasks.Lane
	if err := l.UnmarshalJSON([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for part, other := range map[string]string{
		`"jiguang"`: `"apns"`, `"news"`: `"a\u001bb"`, `"credentials"`: `"\u001b[2J"`, `"calls":1`: `"calls":0`, `"Asia/Shanghai"`: `"\u0007"`, `"24h"`: `"-1h"`,
		`"day"`: `"1us"`,
	} {
		if err := l.UnmarshalJSON([]byte(strings.Replace(good, part, other, 1))); err == nil {
			t.Errorf("%s is taken", other)
		} else if strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q", err)
		}
	}
	_, rdb := mini(t)
	if err := rdb.HSet(t.Context(), tasks.LanesKey, "jiguang:other", good).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := tasks.Lanes(t.Context(), rdb); err == nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// One lane that a newer worker has written must not keep the others from being used.
func TestALaneThatCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	_, rdb := mini(t)
	publish(t, rdb, lanes[0])
	if err := rdb.HSet(t.Context(), tasks.LanesKey, "timpush:chat", `{"window":["new"]}`).Err(); err != nil {
		t.Fatal(err)
	}
	got, err := tasks.Lanes(t.Context(), rdb)
	if err == nil || !strings.Contains(err.Error(), "timpush:chat") || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	p := tasks.NewProducer(rdb, tasks.WithClock(func() time.Time { return now }))
	if res, err := p.Enqueue(t.Context(), tasks.Recall{Provider: "jiguang", MessageID: "1", SentAt: now}); err != nil || res.Status != tasks.Enqueued {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := p.Enqueue(t.Context(), tasks.Recall{Provider: "timpush", MessageID: "1_2", SentAt: now}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("%v", err)
	}
}

func TestATimeZoneThatIsNotKnownHereKeepsItsName(t *testing.T) {
	t.Parallel()
	var l tasks.Lane
	err := l.UnmarshalJSON([]byte(`{"provider":"rongcloud","app":"a","window":"1h","limits":[{"calls":3,"per":"day","time_zone":"Moon/Base"}]}`))
	if err != nil || l.Limits[0].TimeZone.String() != "Moon/Base" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestServed(t *testing.T) {
	t.Parallel()
	l := tasks.Lane{LastSeen: now}
	if !l.Served(now.Add(time.Minute)) || l.Served(now.Add(time.Minute+time.Millisecond)) {
		t.Error("not a minute")
	}
}
