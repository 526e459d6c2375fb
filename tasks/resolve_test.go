package tasks_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/tasks"
)

var lanes = []tasks.Lane{
	{Provider: "jiguang", App: "news", Window: 24 * time.Hour},
	{Provider: "timchat", App: "chat", Window: 72 * time.Hour},
	{Provider: "timchat", App: "shop", Window: 24 * time.Hour},
}

func TestWhenTheWindowCloses(t *testing.T) {
	t.Parallel()
	const id = timChatID // says midnight
	for name, test := range map[string]struct {
		sent time.Time
		want time.Time
	}{
		"as the id says":                   {midnight, midnight.Add(72 * time.Hour)},
		"nearly: what was given counts":    {midnight.Add(5 * time.Minute), midnight.Add(72*time.Hour + 5*time.Minute)},
		"earlier than the id, nearly":      {midnight.Add(-5 * time.Minute), midnight.Add(72*time.Hour - 5*time.Minute)},
		"later than the id: the id's":      {midnight.Add(5*time.Minute + time.Millisecond), midnight.Add(72 * time.Hour)},
		"earlier than the id: the given's": {midnight.Add(-time.Hour), midnight.Add(71 * time.Hour)},
	} {
		r := tasks.Recall{Provider: "timchat", App: "chat", MessageID: id, From: "a", To: "b", SentAt: test.sent}
		got, refused := tasks.Resolve(r, lanes, now, false)
		if refused != nil || got.RecallBy != test.want {
			t.Errorf("%s: %v, %v; want %v", name, got.RecallBy, refused, test.want)
		}
		if got.SentAt != test.sent {
			t.Errorf("%s: the vendor would be sent %v", name, got.SentAt)
		}
	}
}

func TestAClosedWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sent   time.Time
		closed bool
	}{
		"a millisecond left": {now.Add(-24*time.Hour + time.Millisecond), false},
		"to the millisecond": {now.Add(-24 * time.Hour), true},
		"long ago":           {now.Add(-240 * time.Hour), true},
	} {
		got, refused := tasks.Resolve(tasks.Recall{Provider: "jiguang", App: "news", MessageID: "1", SentAt: test.sent}, lanes, now, false)
		if refused.IsExpired() != test.closed {
			t.Errorf("%s: %v", name, refused)
		}
		if got.RecallBy != test.sent.Add(24*time.Hour) {
			t.Errorf("%s: closes at %v", name, got.RecallBy)
		}
		if test.closed && (!errors.Is(refused, tasks.ErrExpired) || refused.Field != "sent_at" || !strings.Contains(refused.Error(), "closed its window at")) {
			t.Errorf("%s: %v", name, refused)
		}
	}
}

func TestWhichLane(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		provider, app string
		allow         bool
		lane          string // the app it resolves to
		says          string
		unserved      bool
	}{
		"named":                           {"timchat", "shop", false, "shop", "", false},
		"the only one":                    {"jiguang", "", false, "news", "", false},
		"one of several":                  {"timchat", "", false, "", "timchat has several: chat, shop", false},
		"one of several, unserved":        {"timchat", "", true, "", "timchat has several: chat, shop", false},
		"unknown app":                     {"jiguang", "old", false, "", "known are news", true},
		"unknown app, unserved":           {"jiguang", "old", true, "old", "", false},
		"unknown provider":                {"timpush", "chat", false, "", "none is published for timpush", true},
		"unknown provider, unserved":      {"timpush", "chat", true, "chat", "", false},
		"nothing known":                   {"timpush", "", false, "", "no worker has ever published a lane of timpush", true},
		"nothing known, unserved":         {"timpush", "", true, "", "no worker has published an app of timpush", false},
		"the only one, though unserved":   {"jiguang", "", true, "news", "", false},
		"another provider's app by name":  {"timpush", "news", false, "", "none is published for timpush", true},
		"no provider of ours at all here": {"smoke", "x", true, "", "is no provider", false},
	}
	for name, test := range tests {
		r := tasks.Recall{Provider: test.provider, App: test.app, MessageID: "1", SentAt: now}
		got, refused := tasks.Resolve(r, lanes, now, test.allow)
		if test.says == "" {
			if refused != nil || got.App != test.lane {
				t.Errorf("%s: %q, %v", name, got.App, refused)
			}
			continue
		}
		if refused == nil || !strings.Contains(refused.Error(), test.says) || errors.Is(refused, tasks.ErrUnserved) != test.unserved {
			t.Errorf("%s: %v; want %q, unserved %v", name, refused, test.says, test.unserved)
		}
	}
}

func TestAnUnservedLaneHasTheProvidersWindow(t *testing.T) {
	t.Parallel()
	got, refused := tasks.Resolve(tasks.Recall{Provider: "timpush", App: "chat", MessageID: "1", SentAt: midnight}, nil, now, true)
	if refused != nil || got.RecallBy != midnight.Add(24*time.Hour) {
		t.Errorf("%v, %v", got.RecallBy, refused)
	}
}
