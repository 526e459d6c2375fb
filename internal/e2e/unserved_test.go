package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// removeLane restarts the worker with a configuration that does not have timchat's lane any more.
func (s *site) removeLane(w *program) {
	s.t.Helper()
	w.signal(syscall.SIGTERM)
	if code := w.exit(15 * time.Second); code != 0 {
		s.t.Fatalf("the worker left with %d", code)
	}
	s.config = s.writeConfig(s.redis.URL, s.vendors.URL, []lane{{"jiguang", "news", ""}})
	s.worker()
}

// aMinuteLater makes the lane's worker one that was seen a minute ago; the long tests wait for that instead.
func (s *site) aMinuteLater() {
	s.t.Helper()
	if os.Getenv("RECALLQ_LONG") == "1" {
		return
	}
	lanes, err := tasks.Lanes(s.t.Context(), s.rdb)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range lanes {
		if l.Provider != "timchat" {
			continue
		}
		l.LastSeen = l.LastSeen.Add(-tasks.SeenWithin)
		if err := tasks.PublishLane(s.t.Context(), s.rdb, l); err != nil {
			s.t.Fatal(err)
		}
	}
}

// enqueueFile runs the command line on an input of chat messages.
func (s *site) enqueueFile(batch string, recalls ...tasks.Recall) {
	s.t.Helper()
	var rows strings.Builder
	rows.WriteString("provider,app,message_id,from,to,sent_at\n")
	for _, r := range recalls {
		sent := r.SentAt
		if sent.IsZero() {
			sent = base
		}
		rows.WriteString(strings.Join([]string{r.Provider, r.App, r.MessageID, r.From, r.To, sent.UTC().Format(time.RFC3339)}, ",") + "\n")
	}
	file := filepath.Join(s.t.TempDir(), "rows.csv")
	if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.says(0, "--file", file, "--batch", batch, "--priority", "bulk")
}

// says runs the command line and returns what it said.
func (s *site) says(code int, args ...string) string {
	s.t.Helper()
	p := s.start("enqueue", append(args, "--redis", s.redis.URL)...)
	if got := p.exit(30 * time.Second); got != code {
		s.t.Fatalf("enqueue %v left with %d, want %d:\n%s", args, got, code, p.output())
	}
	return p.output()
}

func TestABatchOfALaneThatIsNoMoreCanBeCancelled(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"jiguang", "news", ""}, lane{"timchat", "chat", ""})
	w := s.worker()
	s.says(0, "pause", "--provider", "timchat")
	s.enqueueFile("mistake", chat(1), chat(2), chat(3))
	s.enqueueFile("right", chat(4))
	s.removeLane(w)
	s.says(0, "cancel", "mistake")
	s.aMinuteLater()
	e := s.follow()
	s.await(e, 3, 100*time.Second)
	e.all(t, tasks.Cancelled)
	s.says(4, "watch", "mistake") // it has ended, and not all were taken back
	if report := s.says(0, "report", "mistake"); !strings.Contains(report, "cancelled") || strings.Contains(report, "lost") {
		t.Errorf("the report says:\n%s", report)
	}
	if n := s.rdb.LLen(t.Context(), "asynq:{timchat:chat:bulk}:pending").Val(); n != 1 {
		t.Errorf("%d recalls of the other batch wait, want 1", n)
	}
	if n := len(s.callsOf()); n != 0 {
		t.Errorf("%d calls", n)
	}
	// The lane comes back: what was left alone is called.
	s.config = s.writeConfig(s.redis.URL, s.vendors.URL, []lane{{"timchat", "chat", ""}})
	s.worker()
	s.says(0, "resume", "--provider", "timchat")
	s.await(e, 4, 30*time.Second)
	if b := s.batchOf("right"); b["recalled"] != "1" {
		t.Errorf("the other batch stands at %v", b)
	}
}

func TestWindowsCloseInALaneThatIsNoMore(t *testing.T) {
	t.Parallel()
	s := newSite(t, simulator.Options{KnowAll: true}, lane{"jiguang", "news", ""}, lane{"timchat", "chat", "window: 1h"})
	w := s.worker()
	s.says(0, "pause", "--provider", "timchat")
	soon, later := chat(1), chat(2)
	soon.SentAt = time.Now().Add(15*time.Second - time.Hour)
	later.SentAt = time.Now().Add(-time.Minute)
	soon.MessageID, later.MessageID = chatID(1, soon.SentAt), chatID(2, later.SentAt)
	s.enqueueFile("late", soon, later)
	s.removeLane(w)
	s.aMinuteLater()
	e := s.follow()
	s.await(e, 1, 100*time.Second)
	e.all(t, tasks.Expired)
	entries, err := s.rdb.XRange(t.Context(), tasks.OutcomesKey, "-", "+").Result()
	if err != nil || len(entries) != 1 || !strings.Contains(entries[0].Values["error"].(string), "no worker serves its lane") {
		t.Errorf("%v, %v", entries, err)
	}
	if b := s.batchOf("late"); b["expired"] != "1" || b["total"] != "2" {
		t.Errorf("the batch stands at %v", b)
	}
	if n := s.rdb.LLen(t.Context(), "asynq:{timchat:chat:bulk}:pending").Val(); n != 1 {
		t.Errorf("%d recalls wait, want the one whose window is open", n)
	}
}

func (s *site) batchOf(name string) map[string]string {
	s.t.Helper()
	fields, err := s.rdb.HGetAll(s.t.Context(), tasks.BatchKey(name)).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatal(err)
	}
	return fields
}
