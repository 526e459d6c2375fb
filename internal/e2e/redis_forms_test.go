package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/tasks"
)

// form is a Redis in one of the forms that an operator may have.
type form struct {
	// worker is the configuration's redis section for workers, operator that for the command line; empty: the same.
	worker, operator string
	// admin is the test's own way in. push, producer and reader are those of a push system, which puts rows into the inbox,
	// enqueues in Go, and reads outcomes; zero: the same.
	admin, push, producer, reader redisconn.Options
	// after looks at the Redis once everything is over.
	after func(t *testing.T)
}

const (
	redisPassword    = "redis-7d8f3a"
	sentinelPassword = "sentinel-41c9e2"
)

func plainForm(t *testing.T) form {
	s := redistest.Start(t)
	return form{worker: fmt.Sprintf("{url: %q}", s.URL), admin: redisconn.Options{URL: s.URL}}
}

func tlsForm(t *testing.T) form {
	files := redistest.NewCertificates(t)
	s, url := redistest.StartTLS(t, files)
	return form{
		worker: fmt.Sprintf("{url: %q, ca_file: %q, cert_file: %q, key_file: %q}", url, files.CA, files.Cert, files.Key),
		admin:  redisconn.Options{URL: s.URL},
	}
}

func unixForm(t *testing.T) form {
	s, socket := redistest.StartUnix(t)
	return form{worker: fmt.Sprintf("{url: %q}", "unix://"+socket+"?db=3"), admin: redisconn.Options{URL: s.URL[:len(s.URL)-1] + "3"}}
}

func sentinelForm(t *testing.T) form {
	s := redistest.StartSentinels(t, redisPassword, sentinelPassword)
	return sentinelsForm(t, s)
}

func sentinelsForm(t *testing.T, s *redistest.Sentinels) form {
	o := redisconn.Options{
		URL:      "redis-sentinel://" + strings.Join(s.Addrs, ",") + "/5?master=" + redistest.MasterName,
		Password: redisPassword, SentinelPassword: sentinelPassword,
	}
	return form{
		worker: fmt.Sprintf("{url: %q, password: %q, sentinel_password: %q}", o.URL, o.Password, o.SentinelPassword),
		admin:  o,
	}
}

func clusterForm(t *testing.T) form {
	var addrs []string
	for _, s := range redistest.StartCluster(t) {
		addrs = append(addrs, s.Addr)
	}
	return form{
		worker: fmt.Sprintf("{cluster: [%q, %q, %q]}", addrs[0], addrs[1], addrs[2]),
		admin:  redisconn.Options{Cluster: addrs[:1]},
	}
}

// formSite is a site on any form of Redis.
type formSite struct {
	*site
	form
	rdb         redis.UniversalClient
	tools       string // the command line's configuration file
	outcomes    map[string]map[string]any
	lastOutcome string
}

func newFormSite(t *testing.T, f form, opt simulator.Options, lanes ...lane) *formSite {
	t.Helper()
	sim, err := simulator.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	s := &formSite{site: &site{t: t, sim: sim}, form: f, outcomes: map[string]map[string]any{}, lastOutcome: "0"}
	if s.vendors, err = sim.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.vendors.Close() })
	if s.rdb, err = redisconn.New(f.admin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.rdb.Close() })
	s.config = s.configure(f.worker, lanes)
	s.tools = s.config
	if f.operator != "" {
		s.tools = s.configure(f.operator, lanes)
	}
	return s
}

// configure writes a configuration with a redis section of its own.
func (s *formSite) configure(section string, lanes []lane) string {
	s.t.Helper()
	path := s.writeConfig("redis://127.0.0.1:1/0", s.vendors.URL, lanes)
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(path, []byte("redis: "+section+"\n"+rest), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// running is a worker with its page.
type running struct {
	*program
	page string
}

// begin starts a worker and waits until its page is there; it need not be ready.
func (s *formSite) begin(args ...string) *running {
	s.t.Helper()
	w := &running{program: s.start("worker", append([]string{"--config", s.config}, args...)...)}
	s.until(10*time.Second, func() bool {
		w.page = between(w.output(), `"page":"`, `"`)
		return w.page != ""
	})
	return w
}

// ready starts a worker and waits until it serves its lanes.
func (s *formSite) ready(args ...string) *running {
	s.t.Helper()
	w := s.begin(args...)
	s.until(10*time.Second, func() bool { return w.get("readyz") == http.StatusOK })
	return w
}

// get returns the status of a page, zero if there is no answer.
func (w *running) get(path string) int {
	status, _ := w.read(path)
	return status
}

func (w *running) read(path string) (int, string) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(w.page + path)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// says counts lines of the log that hold a text.
func (p *program) says(text string) int {
	n := 0
	for _, line := range strings.Split(p.output(), "\n") {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// tool runs the command line, wants an exit code and returns what it printed.
func (s *formSite) tool(want int, args ...string) string {
	s.t.Helper()
	p := s.start("enqueue", append(args, "--config", s.tools)...)
	if code := p.exit(30 * time.Second); code != want {
		s.t.Errorf("enqueue %s left with %d, want %d:\n%s", strings.Join(args, " "), code, want, p.output())
	}
	return p.output()
}

// file writes rows as NDJSON.
func (s *formSite) file(rows []tasks.Recall) string {
	s.t.Helper()
	var b strings.Builder
	for _, r := range rows {
		row := map[string]string{"provider": r.Provider, "app": r.App, "message_id": r.MessageID}
		if r.SentAt.IsZero() {
			r.SentAt = base
		}
		row["sent_at"] = r.SentAt.UTC().Format(time.RFC3339Nano)
		for name, value := range map[string]string{"from": r.From, "to": r.To, "offline_push_title": r.OfflinePushTitle} {
			if value != "" {
				row[name] = value
			}
		}
		line, err := json.Marshal(row)
		if err != nil {
			s.t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	path := filepath.Join(s.t.TempDir(), "recalls.ndjson")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// awaitOutcomes reads the stream until so many recalls have ended.
func (s *formSite) awaitOutcomes(n int, within time.Duration) {
	s.t.Helper()
	s.until(within, func() bool {
		s.readOutcomes()
		return len(s.outcomes) >= n
	})
}

func (s *formSite) readOutcomes() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	entries, err := s.rdb.XRange(ctx, tasks.OutcomesKey, "("+s.lastOutcome, "+").Result()
	if err != nil {
		return // Redis is away, which some tests want
	}
	for _, e := range entries {
		s.lastOutcome = e.ID
		s.outcomes[fmt.Sprint(e.Values["id"], e.Values["message_id"])] = e.Values
	}
}

func (s *formSite) count(outcome string) int {
	n := 0
	for _, e := range s.outcomes {
		if e["outcome"] == outcome {
			n++
		}
	}
	return n
}

// hold is the published hold of a lane.
func (s *formSite) hold(name string) string {
	lanes, _ := tasks.Lanes(s.t.Context(), s.rdb)
	for _, l := range lanes {
		if l.Name() == name {
			return l.Hold
		}
	}
	return ""
}

func broadcast(i int) tasks.Recall {
	return tasks.Recall{Provider: "engagelab", App: "abroad", MessageID: fmt.Sprint(1_000_000 + i)}
}

func group(i int) tasks.Recall {
	return tasks.Recall{Provider: "rongcloud", App: "community", From: "service", MessageID: fmt.Sprintf("5FGT-7VA9-%04d-4V5P", i)}
}

func many(n int, make func(int) tasks.Recall) []tasks.Recall {
	var list []tasks.Recall
	for i := range n {
		list = append(list, make(i))
	}
	return list
}

// Everything that a worker does, on each form of Redis: several lanes and priorities, outcomes and batches, limits over two
// processes, a hold and its end, a promotion, a cancellation behind a closed lane, the page. On a Cluster none of it may touch
// two slots in one command; as a user with few rights none of it may be refused.
func TestEveryFormOfRedisServes(t *testing.T) {
	t.Parallel()
	forms := map[string]func(*testing.T) form{
		"plain": plainForm, "tls": tlsForm, "unix": unixForm, "sentinel": sentinelForm, "cluster": clusterForm, "acl": aclForm, "acl on a cluster": aclClusterForm,
	}
	for name, start := range forms {
		t.Run(name, func(t *testing.T) {
			if name != "plain" {
				long(t)
			}
			t.Parallel()
			serves(t, start(t))
		})
	}
}

func serves(t *testing.T, f form) {
	s := newFormSite(t, f, simulator.Options{KnowAll: true, Limits: map[string][]simulator.Limit{"rongcloud": {}}},
		lane{"jiguang", "news", ""}, lane{"engagelab", "abroad", ""}, lane{"timpush", "chat", ""}, lane{"timchat", "chat", ""},
		lane{"rongcloud", "community", "limits: [{calls: 1, per: 1h}]"})
	fault := func(f simulator.Fault) int {
		t.Helper()
		id, err := s.sim.Fault(f)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	away := fault(simulator.Fault{Provider: "engagelab", Behaviour: simulator.Behaviour{Status: http.StatusServiceUnavailable}})
	fault(simulator.Fault{Provider: "timchat", MessageID: chat(1).MessageID, Behaviour: simulator.Behaviour{Code: "20022"}})
	fault(simulator.Fault{Provider: "timchat", MessageID: chat(2).MessageID, Behaviour: simulator.Behaviour{Code: "20023"}})
	fault(simulator.Fault{Provider: "jiguang", MessageID: ums(3).MessageID, Times: 2, Behaviour: simulator.Behaviour{Code: "5000"}})
	workers := []*running{s.ready("--log-level", "debug"), s.ready("--log-level", "debug")}

	var rows []tasks.Recall
	waits := asynq.NewInspectorFromRedisClient(s.rdb) // not closed: the client is the site's
	if err := waits.PauseQueue("timpush:chat:bulk"); err != nil {
		t.Fatal(err)
	}
	rows = append(rows, many(60, ums)...)
	rows = append(rows, many(60, chat)...)
	rows = append(rows, many(20, broadcast)...)
	rows = append(rows, many(8, push)...)
	said := s.tool(0, "--file", s.file(rows), "--batch", "incident", "--priority", "bulk", "-o", "json")
	if want := `"enqueued":148,`; !strings.Contains(said, want) {
		t.Errorf("enqueue said %s, want %s", said, want)
	}
	// One of those that wait is wanted at once, and a new one is.
	said = s.tool(0, "add", "--provider", "timpush", "--sent-at", "1m", "--offline-push-title", "Recalled", "-o", "json", push(7).MessageID, push(8).MessageID)
	if want := `"enqueued":1,"duplicate":1,`; !strings.Contains(said, want) {
		t.Errorf("enqueue add said %s, want %s", said, want)
	}
	s.produces()
	s.until(10*time.Second, func() bool { return s.recalled("timpush") == 3 })
	if err := waits.UnpauseQueue("timpush:chat:bulk"); err != nil {
		t.Fatal(err)
	}
	// Of a lane with one call an hour, one goes; the others wait until somebody cancels their batch.
	s.tool(0, "--file", s.file(many(3, group)), "--batch", "mistake", "-o", "json")
	s.until(10*time.Second, func() bool { return s.recalled("rongcloud") == 1 })
	s.tool(0, "cancel", "mistake")
	// Other languages put rows into a stream.
	inbox := s.client(s.push)
	for _, row := range []string{`{"provider":"jiguang","message_id":"` + ums(60).MessageID + `"}`, `{"provider":"jiguang"}`} {
		if err := inbox.XAdd(t.Context(), &redis.XAddArgs{Stream: "recallq:inbox", Values: []string{"row", row, "batch", "inbox"}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.until(20*time.Second, func() bool { return s.hold("engagelab:abroad") == "unavailable" })
	s.sim.RemoveFault(away)

	s.awaitOutcomes(156, 60*time.Second)
	for outcome, want := range map[string]int{tasks.Recalled: 151, tasks.NotFound: 1, tasks.AlreadyRecalled: 1, tasks.Cancelled: 2, "refused": 1} {
		if got := s.count(outcome); got != want {
			t.Errorf("%d recalls ended as %s, want %d", got, outcome, want)
		}
	}
	if n, example := s.violations(); n > 0 {
		t.Errorf("%d calls broke a vendor's limit, such as %s", n, example)
	}
	s.until(5*time.Second, func() bool { return s.hold("engagelab:abroad") == "" })
	for name, want := range map[string][3]int64{"incident": {148, 0, 1}, "mistake": {3, 0, 2}, "inbox": {1, 0, 0}, "produced": {1, 0, 0}} {
		b, err := ledger.New(s.rdb).Batch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]int64{b.Total, b.Open, b.Failed()}; got != want || !b.Ended(time.Now()) {
			t.Errorf("batch %s: total, open, failed %v, want %v: %v", name, got, want, b.Fields)
		}
	}
	// The same again is known.
	said = s.tool(0, "--file", s.file(many(60, ums)), "--batch", "again", "-o", "json")
	if want := `"enqueued":0,"duplicate":60,`; !strings.Contains(said, want) {
		t.Errorf("enqueue said %s, want %s", said, want)
	}
	s.tool(0, "--file", s.file(many(3, broadcast)), "--dry-run")
	s.tool(0, "pause", "--provider", "engagelab")
	s.tool(0, "resume", "--provider", "engagelab")
	s.tool(0, "retry", "incident") // what was not found is not found again
	s.until(10*time.Second, func() bool { return len(s.sim.CallsFor("timchat", chat(1).MessageID)) == 2 })
	s.tool(4, "watch", "incident")
	s.tool(0, "report", "incident", "-o", "csv")
	s.tool(0, "batches")
	if said := s.tool(0, "outcomes"); strings.Count(said, "\n") < 156 {
		t.Errorf("enqueue outcomes printed %s", tail(said))
	}
	s.tool(0, "lanes", "-o", "json")
	s.tool(0, "status", "--provider", "jiguang", "--app", "news", ums(3).MessageID)
	s.tool(0, "status", chat(1).ID())

	for _, path := range []string{"healthz", "readyz", "metrics", "api/queues", "api/queues/jiguang:news:bulk",
		"api/queues/jiguang:news:bulk/completed_tasks", "api/queues/timchat:chat/archived_tasks", "api/queue_stats", "api/servers", "api/redis_info"} {
		if status := workers[0].get(path); status != http.StatusOK {
			t.Errorf("/%s answers %d", path, status)
		}
	}
	if _, metrics := workers[0].read("metrics"); !strings.Contains(metrics, `recallq_queue_tasks{queue="timchat:chat",state="archived"} 1`) {
		t.Errorf("the metrics do not have the queues' figures:\n%s", grep(metrics, "recallq_queue_tasks"))
	}
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
	}
	for _, w := range workers {
		if code := w.exit(10 * time.Second); code != 0 {
			t.Errorf("a worker left with %d", code)
		}
		for _, bad := range []string{"CROSSSLOT", "NOPERM", "MOVED", "WRONGTYPE", "ERR "} {
			if n := w.says(bad); n > 0 {
				t.Errorf("a worker's log has %d lines with %s:\n%s", n, bad, grep(w.output(), bad))
			}
		}
	}
	s.follows()
	if f.after != nil {
		f.after(t)
	}
}

// grep returns the first lines that hold a text.
func grep(output, text string) string {
	const most = 5
	var found []string
	for _, line := range strings.Split(output, "\n") {
		if strings.Contains(line, text) && len(found) < most {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}
