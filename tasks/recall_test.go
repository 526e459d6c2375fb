package tasks_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/recallq/recallq/tasks"
)

// now is the time at which these tests run.
var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// every has every field set, also those that no single provider uses together.
func every() tasks.Recall {
	return tasks.Recall{
		V: 1, Provider: "rongcloud", App: "community", MessageID: "BC52-ESJ0-022O-001H",
		SentAt: time.Date(2026, 11, 20, 1, 55, 10, 0, time.UTC), From: "a\"b\\c\n\x01", To: "收件人",
		OfflinePushTitle: "<b>&", OfflinePushDesc: "d", IsAdmin: true, IsDelete: true, DisableUpdateLastMsg: true,
		Extra: "{\"k\":1}\t", Ref: "order 7",
		EnqueuedAt: time.Date(2026, 11, 20, 2, 0, 0, 7e6, time.UTC), RecallBy: time.Date(2026, 11, 21, 1, 55, 10, 0, time.UTC),
		Batch: "b-1", Seq: 42,
	}
}

func TestPayloadOnTheWire(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		recall tasks.Recall
		want   string
	}{
		"every field, in order": {every(), `{"v":1,"provider":"rongcloud","app":"community","message_id":"BC52-ESJ0-022O-001H",` +
			`"sent_at":"2026-11-20T01:55:10.000Z","from":"a\"b\\c\n\u0001","to":"收件人","offline_push_title":"<b>&","offline_push_desc":"d",` +
			`"is_admin":true,"is_delete":true,"disable_update_last_msg":true,"extra":"{\"k\":1}\t","ref":"order 7",` +
			`"enqueued_at":"2026-11-20T02:00:00.007Z","recall_by":"2026-11-21T01:55:10.000Z","batch":"b-1","seq":42}`},
		"empty ones left out": {
			tasks.Recall{Provider: "jiguang", App: "news", MessageID: "m", RecallBy: now.Add(1500 * time.Microsecond)},
			`{"v":1,"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-20T12:00:00.001Z"}`,
		},
		"times are UTC": {
			tasks.Recall{Provider: "jiguang", App: "news", MessageID: "m", SentAt: now.In(time.FixedZone("", 8*3600)), RecallBy: now},
			`{"v":1,"provider":"jiguang","app":"news","message_id":"m","sent_at":"2026-11-20T12:00:00.000Z","recall_by":"2026-11-20T12:00:00.000Z"}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := test.recall.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
			if !json.Valid(got) {
				t.Error("no JSON")
			}
		})
	}
}

func TestDecodeReadsWhatEncodeWrites(t *testing.T) {
	t.Parallel()
	payload, err := every().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := tasks.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(every(), got); diff != "" {
		t.Error(diff)
	}
}

func TestEncodeRefusesWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]tasks.Recall{
		"not UTF-8":      {Provider: "jiguang", App: "news", MessageID: "m", Ref: "\xff"},
		"year too large": {Provider: "jiguang", App: "news", MessageID: "m", SentAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		var refused *tasks.FieldError
		if b, err := r.Encode(); !errors.As(err, &refused) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

func TestDecodeKeepsWhatItCanOfANewerVersion(t *testing.T) {
	t.Parallel()
	payload := `{"v":2,"provider":"jiguang","app":"news","message_id":{"new":"form"},"sent_at":["?"],` +
		`"recall_by":"2026-11-21T01:55:10.000Z","batch":"b","seq":3,"ref":"r","novelty":1}`
	got, err := tasks.Decode([]byte(payload))
	if !errors.Is(err, tasks.ErrNewerVersion) {
		t.Fatalf("error %v", err)
	}
	want := tasks.Recall{
		V: 2, Provider: "jiguang", App: "news", RecallBy: time.Date(2026, 11, 21, 1, 55, 10, 0, time.UTC),
		Batch: "b", Seq: 3, Ref: "r",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefusesForGood(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"nothing":          ``,
		"no object":        `["v",1]`,
		"null":             `null`,
		"cut off":          `{"v":1,"provider":"jig`,
		"trailing":         `{"v":1}{}`,
		"no version":       `{"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"version 0":        `{"v":0,"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"version as text":  `{"v":"1","provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"unknown provider": `{"v":1,"provider":"smoke","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"no app":           `{"v":1,"provider":"jiguang","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"no id":            `{"v":1,"provider":"jiguang","app":"news","recall_by":"2026-11-21T01:55:10.000Z"}`,
		"no recall_by":     `{"v":1,"provider":"jiguang","app":"news","message_id":"m"}`,
		"recall_by broken": `{"v":1,"provider":"jiguang","app":"news","message_id":"m","recall_by":"tomorrow"}`,
		"sent before 0":    `{"v":1,"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z","sent_at":"0000-01-01T00:00:00+01:00"}`,
		"sent after 9999":  `{"v":1,"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z","sent_at":"9999-12-31T23:59:59-01:00"}`,
		"wrong type":       `{"v":1,"provider":"jiguang","app":"news","message_id":5,"recall_by":"2026-11-21T01:55:10.000Z"}`,
	} {
		if _, err := tasks.Decode([]byte(payload)); err == nil || errors.Is(err, tasks.ErrNewerVersion) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A broken payload is still reported with the batch and the reference it came with.
func TestDecodeOfABrokenPayloadStillTellsWhoseItIs(t *testing.T) {
	t.Parallel()
	r, err := tasks.Decode([]byte(`{"v":1,"provider":"jiguang","app":"news","message_id":"m","sent_at":5,"batch":"b","seq":9,"ref":"r"}`))
	if err == nil {
		t.Fatal("no error")
	}
	if r.Batch != "b" || r.Seq != 9 || r.Ref != "r" || r.MessageID != "m" {
		t.Errorf("%+v", r)
	}
}

// A batch whose name is none would name a key of Redis that others have, or one that no slot of a cluster has.
func TestDecodeBelievesNoBatchThatIsNone(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{`"v":1`, `"v":2`, `"v":0`, `"v":1,"sent_at":5`, `"v":1,"provider":"smoke"`} {
		for _, name := range []string{"}x", "a b", "{b}"} {
			r, err := tasks.Decode([]byte(`{"provider":"jiguang","app":"news","message_id":"m","recall_by":"2026-11-21T01:55:10.000Z","batch":"` + name + `","seq":9,"ref":"r",` + rest + `}`))
			if err == nil || r.Batch != "" || r.Seq != 0 || r.Ref != "r" {
				t.Errorf("%s, %s: %+v, %v", name, rest, r, err)
			}
		}
	}
}

// The task id is for ever: tasks written by one version are found by the next.
func TestIDIsForEver(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]tasks.Recall{
		"jiguang_518092db7807c3a27a5bb73355a53263":   {Provider: "jiguang", App: "news", MessageID: "v:1t:1603707455p:27133n:2"},
		"timchat_07b629219c6bb38e60412d308217c9c1":   {Provider: "timchat", App: "chat", MessageID: "31906_833502_1572869830", From: "jared", To: "tommy"},
		"rongcloud_20b966e918bd5af7fcf732bcf6adaec2": {Provider: "rongcloud", App: "community", MessageID: "BC52-ESJ0-022O-001H", From: "u"},
	} {
		if got := r.ID(); got != want {
			t.Errorf("id %s, want %s", got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	change := map[string]func(*tasks.Recall){
		"app":        func(r *tasks.Recall) { r.App = "other" },
		"message_id": func(r *tasks.Recall) { r.MessageID += "9" },
		"from":       func(r *tasks.Recall) { r.From = "x" },
		"to":         func(r *tasks.Recall) { r.To = "x" },
		"sent_at":    func(r *tasks.Recall) { r.SentAt = now },
		"title":      func(r *tasks.Recall) { r.OfflinePushTitle = "x" },
		"desc":       func(r *tasks.Recall) { r.OfflinePushDesc = "x" },
		"is_admin":   func(r *tasks.Recall) { r.IsAdmin = true },
		"is_delete":  func(r *tasks.Recall) { r.IsDelete = true },
		"disable":    func(r *tasks.Recall) { r.DisableUpdateLastMsg = true },
		"extra":      func(r *tasks.Recall) { r.Extra = "x" },
		"ref":        func(r *tasks.Recall) { r.Ref = "x" },
		"batch":      func(r *tasks.Recall) { r.Batch, r.Seq = "b", 1 },
		"times":      func(r *tasks.Recall) { r.EnqueuedAt, r.RecallBy = now, now },
	}
	part := map[string]string{ // what makes a recall another one, by provider
		"jiguang": "app message_id", "engagelab": "app message_id", "timpush": "app message_id",
		"timchat": "app message_id from to", "rongcloud": "app message_id from",
	}
	for provider, fields := range part {
		base := tasks.Recall{Provider: provider, App: "a", MessageID: "m", From: "f", To: "t"}
		for name, f := range change {
			other := base
			f(&other)
			want := strings.Contains(" "+fields+" ", " "+name+" ")
			if got := base.ID() != other.ID(); got != want {
				t.Errorf("%s: another %s makes another recall: %v, want %v", provider, name, got, want)
			}
		}
	}
}

// Without their lengths, "ab"+"c" and "a"+"bc" would be the same recall.
func TestPartsOfTheIdentityDoNotRunTogether(t *testing.T) {
	t.Parallel()
	a := tasks.Recall{Provider: "timchat", App: "chat", MessageID: "1_2_3", From: "ab", To: "c"}
	b := a
	b.From, b.To = "a", "bc"
	if a.ID() == b.ID() {
		t.Error("two recalls have one id")
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r := every()
	got := r.Request()
	if got.CorrelationID != strings.TrimPrefix(r.ID(), "rongcloud_") || len(got.CorrelationID) != 32 {
		t.Errorf("correlation id %q", got.CorrelationID)
	}
	if got.MessageID != r.MessageID || !got.SentAt.Equal(r.SentAt) || got.From != r.From || got.To != r.To ||
		!got.IsAdmin || !got.IsDelete || !got.DisableUpdateLastMsg || got.Extra != r.Extra ||
		got.OfflinePushTitle != r.OfflinePushTitle || got.OfflinePushDesc != r.OfflinePushDesc {
		t.Errorf("%+v", got)
	}
}

func TestOutcomeOnTheWire(t *testing.T) {
	t.Parallel()
	o := tasks.Outcome{Outcome: tasks.Recalled, Attempts: 2, FinishedAt: now}
	got, err := json.Marshal(o)
	want := `{"outcome":"recalled","code":"","attempts":2,"finished_at":"2026-11-20T12:00:00.000Z"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	var back tasks.Outcome
	if err := json.Unmarshal(got, &back); err != nil || back != o {
		t.Errorf("%+v, %v", back, err)
	}
}

func FuzzDecode(f *testing.F) {
	payload, err := every().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte(`{"v":2,"recall_by":"2026-11-21T01:55:10.000Z"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := tasks.Decode(in)
		if err != nil {
			return
		}
		out, err := r.Encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		again, err := tasks.Decode(out)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, out)
		}
		if again != r {
			t.Fatalf("changed on the way:\n%+v\n%+v", r, again)
		}
	})
}

// The hand-written encoder writes what encoding/json would read as the same texts.
func FuzzEncodeTexts(f *testing.F) {
	f.Add("a\"b\\\u2028<>&\x7f\n")
	f.Fuzz(func(t *testing.T, s string) {
		r := tasks.Recall{Provider: "jiguang", App: "news", MessageID: "m", RecallBy: now, Extra: s}
		out, err := r.Encode()
		if err != nil {
			return
		}
		var got struct{ Extra string }
		if err := json.Unmarshal(out, &got); err != nil || got.Extra != s {
			t.Fatalf("%q became %q (%v)", s, got.Extra, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := tasks.Recall{
		Provider: "timchat", App: "chat", MessageID: "31906_833502_1572869830", From: "jared", To: "tommy",
		SentAt: now, EnqueuedAt: now, RecallBy: now, Batch: "incident-7", Seq: 123456,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkID(b *testing.B) {
	r := tasks.Recall{Provider: "timchat", App: "chat", MessageID: "31906_833502_1572869830", From: "jared", To: "tommy"}
	b.ReportAllocs()
	for b.Loop() {
		_ = r.ID()
	}
}
