package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

func TestHasPassword(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"":                                     false,
		"redis://127.0.0.1:6379/0":             false,
		"redis://ops@127.0.0.1:6379/0":         false,
		"redis://ops:pw@127.0.0.1:6379/0":      true,
		"redis://:pw@127.0.0.1:6379/0":         true,
		"redis://:p@w@h":                       true,
		"redis-sentinel://:pw@h1:1,h2:2/0":     true,
		"redis-sentinel://h1:1,h2:2/0":         false,
		"unix:///run/redis.sock?db=1":          false,
		"unix:///run/redis.sock?password=pw":   true,
		"redis://h/?PASSWORD=pw":               true,
		":pw@h":                                true,
		"redis-sentinel://ops@h1:26379,h2:1/0": false,
	} {
		if got := hasPassword(url); got != want {
			t.Errorf("hasPassword(%q) = %v", url, got)
		}
	}
}

func TestShortTime(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 1499 * time.Millisecond: "1s", time.Minute: "1m", 61 * time.Second: "1m 1s", time.Hour: "1h",
		time.Hour + 5*time.Minute + 59*time.Second: "1h 5m", 24 * time.Hour: "1d", 50 * time.Hour: "2d 2h",
	} {
		if got := shortTime(d); got != want {
			t.Errorf("shortTime(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestIDSet(t *testing.T) {
	t.Parallel()
	id := func(n int) string {
		return tasks.Recall{Provider: "jiguang", App: "news", MessageID: strconv.Itoa(n)}.ID()
	}
	var s idSet
	for n := range 5000 {
		if !s.add(id(n)) {
			t.Fatalf("%d is taken for one that was there", n)
		}
	}
	for n := range 5000 {
		if s.add(id(n)) {
			t.Fatalf("%d is new again", n)
		}
	}
	s.count = seenMost
	for range 2 {
		if !s.add(id(5000)) {
			t.Error("a full set learns")
		}
	}
	if s.add(id(4999)) {
		t.Error("a full set forgets")
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"a.csv": "a.csv", "": "''", "wrong price": "'wrong price'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "a=b,c=d": "a=b,c=d",
	} {
		if got := shellQuote(word); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", word, got, want)
		}
	}
}

// TestDuplicatesAreBounded: a file may meet as many batches as it has rows.
func TestDuplicatesAreBounded(t *testing.T) {
	t.Parallel()
	count := &tally{}
	for n := range 1000 {
		count.result("mine", tasks.Result{Status: tasks.Duplicate, Existing: tasks.Existing{Standing: tasks.Open, Batch: newBatchName(time.Unix(int64(n), 0))}}, nil)
	}
	if len(count.standing) > mostStandings+1 {
		t.Errorf("%d standings are remembered", len(count.standing))
	}
	if count.read() != 1000 {
		t.Errorf("read %d", count.read())
	}
}

// The numbers of one sentence are written one way.
func TestTheLastLineOfAWatch(t *testing.T) {
	t.Parallel()
	b := ledger.Batch{Name: "b", Total: 3_000, Outcomes: map[string]int64{tasks.Recalled: 1_483, tasks.NotFound: 1_517}}
	const want = "batch b has ended: 1,483 of 3,000 recalls taken back, 1,517 not (not_found 1,517);"
	if got := sayEnd(b, time.Now(), place{}); !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		count *tally
		want  int
	}{
		{&tally{enqueued: 1, duplicate: 1}, exitOK},
		{&tally{enqueued: 1, invalid: 1}, exitRefused},
		{&tally{enqueued: 1, expired: 1}, exitRefused},
		{&tally{invalid: 1, failed: 1}, exitFailure},
	} {
		if got := test.count.code(); got != test.want {
			t.Errorf("%s: exit code %d, want %d", test.count.line(), got, test.want)
		}
	}
}

func TestResumeBeforeArguments(t *testing.T) {
	t.Parallel()
	e := &enqueuing{
		p:   &program{args: []string{"add", "--provider", "jiguang", "--", "-odd"}},
		set: &settings{batch: "b", generated: true},
	}
	if got, want := e.resume(), "enqueue add --provider jiguang --batch b -- -odd"; got != want {
		t.Errorf("resume() = %q, want %q", got, want)
	}
}
