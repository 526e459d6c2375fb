package ops

import (
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/tasks"
)

func TestPayloadsAsAPersonReadsThem(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 2, 35, 10, 0, time.UTC)
	f := formatter{
		now:       func() time.Time { return now },
		simulated: func(provider, app string) bool { return provider == "rongcloud" && app == "staging" },
	}
	sent := now.Add(-40 * time.Minute)
	encode := func(r tasks.Recall) string {
		payload, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(payload)
	}
	for _, c := range []struct{ name, taskType, payload, want string }{
		{
			"all that it can have", "recall:timchat",
			encode(tasks.Recall{
				Provider: "timchat", App: "chat", MessageID: "31906_833502_1572869830", From: "alice", To: "bo", Extra: "words",
				SentAt: sent, RecallBy: sent.Add(24 * time.Hour), Batch: "storm-1", Seq: 7, Ref: "a <b>",
			}),
			`{"provider":"timchat","app":"chat","message id":"31906_833502_1572869830",` +
				`"sent":"40 min 0 s ago","sent at":"2026-11-20 01:55:10 UTC","time left":"23 h 20 min","recall by":"2026-11-21 01:55:10 UTC",` +
				`"from":"al…","to":"b…","batch":"storm-1","ref":"a <b>"}`,
		},
		{
			"the window has closed", "recall:jiguang",
			encode(tasks.Recall{Provider: "jiguang", App: "news", MessageID: "1", RecallBy: now}),
			`{"provider":"jiguang","app":"news","message id":"1","time left":"none","recall by":"2026-11-20 02:35:10 UTC"}`,
		},
		{
			"a simulated lane", "recall:rongcloud",
			encode(tasks.Recall{Provider: "rongcloud", App: "staging", MessageID: "1", RecallBy: now}),
			`{"provider":"rongcloud","app":"staging","simulated":"does not reach the vendor","message id":"1",` +
				`"time left":"none","recall by":"2026-11-20 02:35:10 UTC"}`,
		},
		{
			"a newer version", "recall:jiguang",
			`{"v":9,"provider":"jiguang","app":"news","message_id":"1","recall_by":"2026-11-20T02:35:12.000Z","from":{"name":"alice"}}`,
			`{"provider":"jiguang","app":"news","message id":"1","time left":"2 s","recall by":"2026-11-20 02:35:12 UTC",` +
				`"note":"the payload is of a newer version; upgrade the worker"}`,
		},
		{"another program's task", "email:welcome", `{"user":"bob"}`, `{"user":"bob"}`},
		{"a provider's name in front only", "recall:jiguang2", `{"user":"bob"}`, `{"user":"bob"}`},
	} {
		if got := f.payload(c.taskType, []byte(c.payload)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestABrokenPayloadSaysWhyAndShowsNothingOfItself(t *testing.T) {
	t.Parallel()
	f := formatter{now: time.Now}
	for _, payload := range []string{"", "alice\x00", `["alice"]`, `{"v":1,"from":"alice"}`, `{"v":1,"provider":"timchat","from":["alice"]}`} {
		got := f.payload("recall:timchat", []byte(payload))
		if !strings.Contains(got, `"note":"cannot be read: `) || strings.Contains(got, "alice") {
			t.Errorf("%q is shown as %s", payload, got)
		}
	}
}

func TestResultsAsAPersonReadsThem(t *testing.T) {
	t.Parallel()
	f := formatter{now: time.Now}
	for result, want := range map[string]string{
		`{"outcome":"recalled","code":"0","attempts":3,"finished_at":"2026-11-20T02:35:10.123Z"}`:        `{"outcome":"recalled","code":"0","attempts":3,"finished at":"2026-11-20 02:35:10 UTC"}`,
		`{"outcome":"already_recalled","code":"","attempts":1,"finished_at":"2026-11-20T02:35:10.123Z"}`: `{"outcome":"already_recalled","attempts":1,"finished at":"2026-11-20 02:35:10 UTC"}`,
		``:                ``,
		`sent 3 letters`:  `sent 3 letters`,
		`{"outcome":"x"}`: `{"outcome":"x"}`,
	} {
		if got := f.result("", []byte(result)); got != want {
			t.Errorf("%s is shown as %s, want %s", result, got, want)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                             "0 s",
		59*time.Second + 9e8:          "59 s",
		61 * time.Second:              "1 min 1 s",
		time.Hour:                     "1 h 0 min",
		23*time.Hour + 20*time.Minute: "23 h 20 min",
		50 * time.Hour:                "2 d 2 h",
	} {
		if got := span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
