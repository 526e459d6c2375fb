package inbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/tasks"
)

func TestEntriesBecomeTasks(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		add(t, rdb, "row", row("before-the-first-worker"))
		run(t, rdb)
		drained(t, rdb)
		wantQueued(t, rdb, bulk, 1)

		add(t, rdb, "row", row("urgent"), "priority", "urgent")
		add(t, rdb, "row", row("bulk"), "priority", "bulk", "batch", "")
		add(t, rdb, "batch", "b", "priority", "", "row", row("batch"))
		add(t, rdb, "row", row("batch"), "batch", "b") // once more
		add(t, rdb, "row", row("bulk"), "batch", "b")  // nobody's until now
		add(t, rdb, "row", row("bulk"))
		add(t, rdb, "row", `{"provider":"timchat","app":"b","MsgKey":"1_2_`+strconv.FormatInt(time.Now().Unix(), 10)+`","from":"f","to":"t","ref":"r"}`)
		eventually(t, "all entries are taken", func() bool { return inStream(t, rdb) == 0 })
		drained(t, rdb)

		wantQueued(t, rdb, urgent, 1)
		wantQueued(t, rdb, bulk, 3)
		wantQueued(t, rdb, "asynq:{timchat:b:bulk}:pending", 1)
		wantSums(t, rdb, "b", map[string]int64{"total": 2, "open": 1, "duplicate": 1})
		b, err := ledger.New(rdb).Batch(t.Context(), "b")
		if err != nil || b.Reading != 0 || b.By != "inbox" {
			t.Errorf("%+v, %v", b, err)
		}
		if got := outcomes(t, rdb); len(got) != 0 {
			t.Errorf("%v", got)
		}
	})
}

// Each of these is refused, and none keeps those behind it from being taken.
func TestRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", tasks.MaxRow)
	sent := time.Now().Truncate(time.Second).UTC()
	old := sent.Add(-25 * time.Hour)
	cases := []struct {
		entry []any
		error string            // the beginning
		want  map[string]string // of the fields that could be read, if any
	}{
		{[]any{"rows", row("1")}, `rows "{\"provider`, nil},
		{[]any{"batch", "b"}, "row is missing", map[string]string{"batch": "b"}},
		{[]any{"row", ""}, "row is missing", nil},
		{[]any{"row", "no JSON"}, `row "no JSON" is no JSON object`, nil},
		{[]any{"row", "[1]"}, `row "[1]" is no JSON object`, nil},
		{[]any{"row", "{}"}, "provider is missing", nil},
		{[]any{"row", "\xff\xfe{"}, `row "{" is not UTF-8`, nil},
		{[]any{"row", `{"provider":"jiguang","message_id":"` + long + `"}`}, "row ", nil},
		{
			[]any{"row", `{"provider":"jiguang","message_id":"1","sent_at":"2026-11-20 01:55:10"}`},
			`sent_at "2026-11-20 01:55:10" has no time zone; add one like +08:00 or Z`, map[string]string{"provider": "jiguang", "message_id": "1"},
		},
		{
			[]any{"row", `{"provider":"jiguang","app":"news","message_id":"1","ref":"r","colour":"red"}`},
			`colour "red" is no field of a recall`, map[string]string{"provider": "jiguang", "app": "news", "message_id": "1", "ref": "r"},
		},
		{
			[]any{"row", fmt.Sprintf(`{"provider":"rongcloud","message_id":"0000-0000-0000-0001","from":"f","sent_at":%d}`, sent.Unix())},
			"app is missing, and no worker has ever published a lane of rongcloud; check the name, or have a worker started for it",
			map[string]string{"provider": "rongcloud", "message_id": "0000-0000-0000-0001", "sent_at": tasks.FormatTime(sent)},
		},
		{[]any{"row", `{"provider":"apns","message_id":"1"}`}, `provider "apns" is no provider`, map[string]string{"provider": "apns", "message_id": "1"}},
		{
			[]any{"row", fmt.Sprintf(`{"provider":"jiguang","app":"sport","message_id":"1","sent_at":%d}`, sent.Unix()), "batch", "b"},
			`app "sport" is served by no worker: none has ever published jiguang:sport (known are news); check the name, or have a worker started for it`,
			map[string]string{"provider": "jiguang", "app": "sport", "message_id": "1", "batch": "b", "sent_at": tasks.FormatTime(sent)},
		},
		{
			[]any{"row", fmt.Sprintf(`{"provider":"timchat","message_id":"1_2_%d","from":"f","to":"t"}`, sent.Unix())},
			"app is missing, and timchat has several: a, b", map[string]string{"provider": "timchat", "message_id": fmt.Sprint("1_2_", sent.Unix()), "sent_at": tasks.FormatTime(sent)},
		},
		{
			[]any{"row", fmt.Sprintf(`{"provider":"jiguang","message_id":"1","sent_at":%d}`, old.Unix())},
			fmt.Sprintf(`sent_at %q is too long ago: jiguang:news closed its window at %s`, tasks.FormatTime(old), tasks.FormatTime(old.Add(24*time.Hour))),
			map[string]string{"provider": "jiguang", "message_id": "1", "sent_at": tasks.FormatTime(old)},
		},
		{
			[]any{"row", row("1"), "priority", "high"}, `priority "high" is no priority; use urgent or bulk`,
			map[string]string{"provider": "jiguang", "message_id": "1"},
		},
		{
			[]any{"row", row("1"), "batch", "a b"}, `batch "a b" is no batch name`,
			map[string]string{"provider": "jiguang", "message_id": "1", "batch": "a b"},
		},
		{
			[]any{"row", row("1"), "row", row("2")}, `row "{`, map[string]string{"provider": "jiguang", "message_id": "1"},
		},
		{
			[]any{"row", row("1"), "app", "news"}, `app "news" is no field of an entry`,
			map[string]string{"provider": "jiguang", "message_id": "1"},
		},
	}
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		_, log := run(t, rdb)
		var want []string
		for i, c := range cases {
			want = append(want, add(t, rdb, c.entry...))
			add(t, rdb, "row", row(fmt.Sprint("good", i)))
		}
		eventually(t, "all entries are taken", func() bool { return inStream(t, rdb) == 0 })
		drained(t, rdb)
		wantQueued(t, rdb, bulk, len(cases))

		refused := map[string]map[string]any{}
		for _, o := range outcomes(t, rdb) {
			refused[fmt.Sprint(o["id"])] = o
		}
		if len(refused) != len(cases) {
			t.Errorf("%d refusals for %d entries", len(refused), len(cases))
		}
		for i, c := range cases {
			got := refused[want[i]]
			text, _ := got["error"].(string)
			if !strings.HasPrefix(text, c.error) || len(text) > 200 || strings.Contains(text, "--") {
				t.Errorf("%.60s: error %q", c.entry, text)
			}
			field, _, _ := strings.Cut(c.error, " ")
			reason, _ := got["reason"].(string)
			if got["field"] != field || reason == "" || len(reason) > 200 || len(text) < 200 && !strings.HasSuffix(text, reason) {
				t.Errorf("%.60s: error %q, field %q, reason %q", c.entry, text, got["field"], reason)
			}
			delete(got, "field")
			delete(got, "reason")
			finished, err := time.Parse(time.RFC3339, fmt.Sprint(got["finished_at"]))
			if err != nil || time.Since(finished).Abs() > time.Minute {
				t.Errorf("%.60s: finished_at %v", c.entry, got["finished_at"])
			}
			delete(got, "error")
			delete(got, "finished_at")
			if c.want["sent_at"] == "" && got["provider"] != "" {
				delete(got, "sent_at") // of row's
			}
			whole := map[string]any{
				"id": want[i], "provider": "", "app": "", "message_id": "", "ref": "", "outcome": inbox.Refused, "code": "",
				"attempts": "0", "batch": "", "seq": "", "sent_at": "",
			}
			if _, ok := got["sent_at"]; !ok {
				delete(whole, "sent_at")
			}
			for field, value := range c.want {
				whole[field] = value
			}
			if diff := cmp.Diff(whole, got); diff != "" {
				t.Errorf("%.60s: %s", c.entry, diff)
			}
		}
		if n := log.count("refused"); n == 0 || n > len(cases)/2 {
			t.Errorf("%d lines for %d refusals", n, len(cases))
		}
	})
}

// Whatever package tasks comes to advise: who sends entries has no command line.
func TestRefusalsNameNoFlags(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../tasks/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, literal := range regexp.MustCompile(`"[^"\n]*(--[a-z]|unserved lanes)[^"\n]*"`).FindAllString(string(text), -1) {
			if said := inbox.ProducersWords(literal); strings.Contains(said, "--") || strings.Contains(said, "unserved") {
				t.Errorf("%s: a producer is told %s", filepath.Base(file), said)
			}
		}
	}
}

// An entry goes on as it was meant after each form of crash, and starts no second call.
func TestEntriesOfTheDead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		if err := rdb.XGroupCreateMkStream(t.Context(), inbox.Key, inbox.Group, "0").Err(); err != nil {
			t.Fatal(err)
		}
		p, l := tasks.NewProducer(rdb), ledger.New(rdb)
		batch, err := p.OpenBatch(t.Context(), tasks.BatchOptions{Name: "b"})
		if err != nil {
			t.Fatal(err)
		}
		defer batch.Close(t.Context())
		recall := func(id string) tasks.Recall {
			return tasks.Recall{Provider: "jiguang", MessageID: id, SentAt: time.Now()}
		}
		// Redis's clock stands in the entries' ids, and outcomes come later.
		later := time.Now().Add(time.Minute)
		failed := func(res tasks.Result, err error, r tasks.Recall, at time.Time) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			task := ledger.Task{Queue: res.Queue, ID: res.ID}
			err = l.Record(t.Context(), task, ledger.Entry{ID: res.ID, Recall: r, Outcome: tasks.Outcome{Outcome: tasks.NotFound, FinishedAt: at}})
			if err != nil {
				t.Fatal(err)
			}
		}
		inBatch := func(id string, at time.Time) {
			t.Helper()
			r := recall(id)
			res, err := batch.Enqueue(t.Context(), r, tasks.WithPriority(tasks.Bulk))
			r.Batch, r.Seq = "b", res.Seq
			failed(res, err, r, at)
		}

		add(t, rdb, "row", row("not-begun"))
		add(t, rdb, "row", row("enqueued"))
		add(t, rdb, "row", row("failed"))
		add(t, rdb, "row", row("failed-long-before"))
		add(t, rdb, "row", row("failed-in-the-batch"), "batch", "b")
		add(t, rdb, "row", row("not-counted"), "batch", "b")
		add(t, rdb, "row", row("failed-elsewhere"), "batch", "b")
		expired := recall("expired-since")
		expired.SentAt = time.Now().Add(-24*time.Hour + 2*time.Second).Truncate(time.Millisecond)
		add(t, rdb, "row", fmt.Sprintf(`{"provider":"jiguang","message_id":"expired-since","sent_at":%d}`, expired.SentAt.UnixMilli()))
		add(t, rdb, "row", fmt.Sprintf(`{"provider":"jiguang","message_id":"expired-failed","sent_at":%d}`, expired.SentAt.UnixMilli()))
		gone := add(t, rdb, "row", row("gone"))
		add(t, rdb, "rows", "of no form")
		if n, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{
			Group: inbox.Group, Consumer: "dead", Streams: []string{inbox.Key, ">"},
		}).Result(); err != nil || len(n[0].Messages) != 11 {
			t.Fatal(n, err)
		}

		for _, id := range []string{"enqueued", "not-counted"} {
			if _, err := p.Enqueue(t.Context(), recall(id)); err != nil {
				t.Fatal(err)
			}
		}
		if res, err := p.Enqueue(t.Context(), expired); err != nil || res.Status != tasks.Enqueued {
			t.Fatal(res, err)
		}
		for id, at := range map[string]time.Time{"failed": later, "failed-long-before": later.Add(-time.Hour), "failed-elsewhere": later} {
			res, err := p.Enqueue(t.Context(), recall(id), tasks.WithPriority(tasks.Bulk))
			failed(res, err, recall(id), at)
		}
		expired.MessageID = "expired-failed"
		res, err := p.Enqueue(t.Context(), expired, tasks.WithPriority(tasks.Bulk))
		failed(res, err, expired, later.Add(-time.Hour))
		inBatch("failed-in-the-batch", later)
		if err := batch.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := rdb.XDel(t.Context(), inbox.Key, gone).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its window closes", func() bool { return time.Since(expired.SentAt) > 24*time.Hour })

		run(t, rdb, fastTakeover)
		drained(t, rdb)
		result := func(id string, pr tasks.Priority) string {
			r := recall(id)
			r.App = "news"
			return rdb.HGet(t.Context(), tasks.TaskKey(tasks.Queue("jiguang", "news", pr), r.ID()), "result").Val()
		}
		for id, failed := range map[string]bool{
			"not-begun": false, "failed": true, "failed-long-before": false, "failed-in-the-batch": true, "failed-elsewhere": false,
		} {
			if got := result(id, tasks.Bulk); strings.Contains(got, tasks.NotFound) != failed {
				t.Errorf("%s: result %q", id, got)
			}
		}
		wantSums(t, rdb, "b", map[string]int64{"total": 3, "open": 1, "not_found": 1, "duplicate": 1})
		var ids []any
		for _, o := range outcomes(t, rdb) {
			if o["outcome"] == inbox.Refused {
				ids = append(ids, o["error"])
			}
		}
		if len(ids) != 2 || !strings.HasPrefix(fmt.Sprint(ids[0]), "sent_at ") || !strings.HasPrefix(fmt.Sprint(ids[1]), "rows ") {
			t.Errorf("refused: %v", ids)
		}
	})
}

// A consumer that is gone is removed from the group, unless it has entries.
func TestConsumersAreForgotten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		consumers := func() map[string]int64 {
			all := map[string]int64{}
			for _, c := range rdb.XInfoConsumers(t.Context(), inbox.Key, inbox.Group).Val() {
				all[c.Name] = c.Pending
			}
			return all
		}
		if err := rdb.XGroupCreateMkStream(t.Context(), inbox.Key, inbox.Group, "0").Err(); err != nil {
			t.Fatal(err)
		}
		add(t, rdb, "row", row("1"))
		for _, consumer := range []string{"busy", "idle"} {
			err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{
				Group: inbox.Group, Consumer: consumer, Streams: []string{inbox.Key, ">"}, Block: -1,
			}).Err()
			if err != nil && err != redis.Nil {
				t.Fatal(err)
			}
		}
		stop, _ := run(t, rdb, func(in *inbox.Inbox) { in.TakeOver(time.Hour, 20*time.Millisecond); in.Forget(0) })
		eventually(t, "the idle consumer is gone", func() bool { _, there := consumers()["idle"]; return !there })
		stop()
		if diff := cmp.Diff(map[string]int64{"busy": 1}, consumers()); diff != "" {
			t.Error(diff)
		}
	})
}

// Entries for a cancelled batch are refused, and it stays cancelled; also by a worker that has it open.
func TestCancelledBatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		stop, _ := run(t, rdb)
		add(t, rdb, "row", row("1"), "batch", "b")
		drained(t, rdb)
		l := ledger.New(rdb)
		if err := l.Cancel(t.Context(), "b", "ops", time.Now()); err != nil {
			t.Fatal(err)
		}
		add(t, rdb, "row", row("2"), "batch", "b")
		drained(t, rdb)
		stop()
		add(t, rdb, "row", row("3"), "batch", "b")
		add(t, rdb, "row", row("4"))
		run(t, rdb, func(*inbox.Inbox) {})
		drained(t, rdb)
		wantQueued(t, rdb, bulk, 2)
		wantSums(t, rdb, "b", map[string]int64{"total": 1, "open": 1})
		if b, err := l.Batch(t.Context(), "b"); err != nil || b.CancelledAt.IsZero() {
			t.Errorf("%+v, %v", b, err)
		}
		got := outcomes(t, rdb)
		if len(got) != 2 || !strings.HasPrefix(fmt.Sprint(got[1]["error"]), `batch "b" was cancelled at `) {
			t.Errorf("%v", got)
		}
	})
}

// A stop ends the wait for entries, and what comes afterwards stays where it is.
func TestStop(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		stop, _ := run(t, rdb)
		add(t, rdb, "row", row("1"))
		drained(t, rdb)
		began := time.Now()
		stop()
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the stop took %s", d)
		}
		if left := rdb.XInfoConsumers(t.Context(), inbox.Key, inbox.Group).Val(); len(left) != 0 {
			t.Errorf("%v stay in the group", left)
		}
		add(t, rdb, "row", row("2"))
		wantQueued(t, rdb, bulk, 1)
		if n := inStream(t, rdb); n != 1 {
			t.Errorf("%d entries", n)
		}
	})
}
