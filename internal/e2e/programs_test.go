package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/redistest"
)

// The three programs as a person starts them: a simulator in the vendors' place, a worker with a configuration file, and the
// command line, on a real Redis.
func TestThreeProgramsAndARedis(t *testing.T) {
	t.Parallel()
	s := &site{t: t, redis: redistest.Start(t)}
	s.rdb = s.redis.Client(t)
	vendors := s.simulator("--know-all", "--limits", "off")
	s.config = s.writeConfig(s.redis.URL, vendors, []lane{
		{"jiguang", "news", ""}, {"engagelab", "abroad", ""}, {"timpush", "chat", "limits: []"}, {"timchat", "chat", ""}, {"rongcloud", "community", "limits: []"},
	})
	s.worker()

	now := time.Now()
	sent := now.Add(-time.Hour)
	rows := []struct {
		provider, id, fault string
		sentAt              time.Time
		outcome, code       string
		calls               int // -1: any number
	}{
		{"jiguang", fmt.Sprintf("v:1t:%dp:1n:1", sent.Unix()), `{"code":"5000","times":2}`, sent, "recalled", "0", 3},
		{"timpush", fmt.Sprintf("%08x_5_1", sent.Unix()), `{"code":"91000","times":2}`, sent, "recalled", "0", 3},
		{"timchat", fmt.Sprintf("1_1_%d", sent.Unix()), `{"code":"91000","times":2}`, sent, "recalled", "0", 3},
		{"jiguang", fmt.Sprintf("v:1t:%dp:2n:1", sent.Unix()), `{"code":"1015055"}`, sent, "already_recalled", "1015055", 1},
		{"timpush", fmt.Sprintf("%08x_5_2", sent.Unix()), `{"code":"90050"}`, sent, "already_recalled", "90050", 1},
		{"timchat", fmt.Sprintf("2_1_%d", sent.Unix()), `{"code":"20023"}`, sent, "already_recalled", "20023", 1},
		{"engagelab", "1828256757", `{"code":"21003"}`, sent, "not_found", "21003", 1},
		{"rongcloud", "5FGT-7VA9-G4DD-4V5P", `{"code":"1000","times":1}`, sent, "recalled", "200", 2},
		{"timchat", fmt.Sprintf("3_1_%d", now.Add(9*time.Second-24*time.Hour).Unix()), `{"code":"91000"}`, now.Add(9*time.Second - 24*time.Hour), "expired", "91000", -1},
	}
	var input strings.Builder
	for _, r := range rows {
		if r.fault != "" {
			fault := strings.Replace(r.fault, "{", fmt.Sprintf(`{"provider":%q,"id":%q,`, r.provider, r.id), 1)
			s.post(vendors+"/_sim/faults", fault)
		}
		row := map[string]string{"provider": r.provider, "message_id": r.id, "sent_at": r.sentAt.UTC().Format(time.RFC3339Nano)}
		if r.provider == "timchat" {
			row["from"], row["to"] = "service", "user"
		}
		if r.provider == "rongcloud" {
			row["from"] = "service"
		}
		if r.provider == "timpush" {
			row["offline_push_title"] = "Recalled"
		}
		line, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(line, '\n'))
	}
	file := filepath.Join(t.TempDir(), "recalls.ndjson")
	if err := os.WriteFile(file, []byte(input.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	enqueue := s.start("enqueue", "--redis", s.redis.URL, "--file", file, "--batch", "incident-1", "-o", "json")
	if code := enqueue.exit(20 * time.Second); code != 0 {
		t.Fatalf("enqueue left with %d:\n%s", code, enqueue.output())
	}
	if want := fmt.Sprintf(`"enqueued":%d`, len(rows)); !strings.Contains(strings.ReplaceAll(enqueue.output(), " ", ""), want) {
		t.Errorf("enqueue said %s, want %s", enqueue.output(), want)
	}

	ended := map[string]map[string]any{}
	s.until(40*time.Second, func() bool {
		entries, err := s.rdb.XRange(t.Context(), "recallq:outcomes", "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			ended[fmt.Sprint(e.Values["message_id"])] = e.Values
		}
		return len(ended) == len(rows)
	})
	calls := s.ledger(vendors)
	for _, r := range rows {
		e := ended[r.id]
		if e["outcome"] != r.outcome || e["code"] != r.code || e["batch"] != "incident-1" {
			t.Errorf("%s %s ended as %v %v of %v, want %s %s: %v", r.provider, r.id, e["outcome"], e["code"], e["batch"], r.outcome, r.code, e["error"])
		}
		if r.calls >= 0 && len(calls[r.id]) != r.calls {
			t.Errorf("%s %s: %d calls, want %d", r.provider, r.id, len(calls[r.id]), r.calls)
		}
		for _, at := range calls[r.id] {
			if recallBy := r.sentAt.Add(24 * time.Hour); !at.Before(recallBy) {
				t.Errorf("%s %s was called at %v, its window closed at %v", r.provider, r.id, at, recallBy)
			}
		}
	}
	// The same input again: what ended well is left alone, what was not found is tried again, what is too late is refused.
	s.until(20*time.Second, func() bool { return time.Now().After(now.Add(9 * time.Second)) })
	again := s.start("enqueue", "--redis", s.redis.URL, "--file", file, "--batch", "incident-1", "-o", "json")
	if code := again.exit(20 * time.Second); code != 3 {
		t.Errorf("the same input again left with %d, want 3", code)
	}
	if want := `{"read":9,"enqueued":1,"duplicate":7,"expired":1,"invalid":0,"failed":0,"batch":"incident-1"}`; !strings.Contains(again.output(), want) {
		t.Errorf("the same input again: %s", again.output())
	}
	if n := len(s.ledger(vendors)[rows[0].id]); n != 3 {
		t.Errorf("%d calls after the second run, want still 3", n)
	}
}

// simulator starts a simulator and returns its URL.
func (s *site) simulator(args ...string) string {
	s.t.Helper()
	p := s.start("simulator", append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	url := ""
	s.until(10*time.Second, func() bool {
		address := regexp.MustCompile(`http://127\.0\.0\.1:\d+\b`).FindString(p.output())
		url = address
		return address != ""
	})
	return url
}

func (s *site) post(url, body string) {
	s.t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		s.t.Fatalf("%s: %s", url, res.Status)
	}
}

// ledger returns the times of the calls for each message.
func (s *site) ledger(vendors string) map[string][]time.Time {
	s.t.Helper()
	res, err := http.Get(vendors + "/_sim/ledger")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	calls := map[string][]time.Time{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var c struct {
			ID   string    `json:"id"`
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			s.t.Fatal(err)
		}
		calls[c.ID] = append(calls[c.ID], c.Time)
	}
	return calls
}
