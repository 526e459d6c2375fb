package ops_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/recallq/recallq/internal/ops"
	"github.com/recallq/recallq/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const local = "http://127.0.0.1:8080"

func options(rdb redis.UniversalClient, ui ops.UI) ops.Options {
	return ops.Options{
		Redis: rdb, UI: ui, Log: zerolog.Nop(),
		Ready: func(context.Context) ops.Readiness {
			return ops.Readiness{Redis: true, Lanes: []ops.LaneState{{Lane: "jiguang:news", Running: true}}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "recallq_up 1\n") }),
	}
}

func start(t *testing.T, ui ops.UI) (*ops.Server, *redis.Client) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := ops.New(options(rdb, ui))
	if err != nil {
		t.Fatal(err)
	}
	return s, rdb
}

func ask(h http.Handler, method, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, local+path, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func as(name, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

func with(header, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(header, value) }
}

func to(host string) func(*http.Request) {
	return func(r *http.Request) { r.Host = host }
}

func TestHealthReadinessAndMetricsNeedNoLoginAndAllElseDoes(t *testing.T) {
	t.Parallel()
	s, _ := start(t, ops.UI{Enabled: true, Username: "ops", Password: "s3cret"})
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if w := ask(s, "GET", path, to("10.1.2.3:8080")); w.Code != 200 {
			t.Errorf("%s answers %d: %s", path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/", "/queues/jiguang:news", "/api/queues", "/static/js/main.5adda2da.chunk.js", "/favicon.ico", "/healthz/", "/metrics/x"} {
		w := ask(s, "GET", path, to("10.1.2.3:8080"))
		if w.Code != 401 {
			t.Errorf("%s without login answers %d", path, w.Code)
		}
		if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic realm=") {
			t.Errorf("%s does not ask for a login, but %q", path, got)
		}
	}
	if w := ask(s, "POST", "/healthz"); w.Code != 401 {
		t.Errorf("POST /healthz answers %d", w.Code)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	named, _ := start(t, ops.UI{Enabled: true, ReadOnly: true, Username: "ops", Password: "s3cret"})
	unnamed, _ := start(t, ops.UI{Enabled: true, ReadOnly: true, Password: "s3cret"})
	for _, c := range []struct {
		name   string
		server *ops.Server
		login  func(*http.Request)
		want   int
	}{
		{"right", named, as("ops", "s3cret"), 200},
		{"wrong password", named, as("ops", "s3cre"), 401},
		{"longer password", named, as("ops", "s3cret "), 401},
		{"no password", named, as("ops", ""), 401},
		{"wrong name", named, as("root", "s3cret"), 401},
		{"no name", named, as("", "s3cret"), 401},
		{"another scheme", named, with("Authorization", "Bearer s3cret"), 401},
		{"any name where none is set", unnamed, as("alice", "s3cret"), 200},
		{"wrong password where no name is set", unnamed, as("", "x"), 401},
	} {
		if w := ask(c.server, "GET", "/", c.login); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestALoginCanBeReplaced(t *testing.T) {
	t.Parallel()
	s, _ := start(t, ops.UI{Enabled: true, Username: "ops", Password: "old"})
	as := func(name, password string) int {
		return ask(s, "GET", "/", func(r *http.Request) {
			r.Host = "page.example.com"
			if password != "" {
				r.SetBasicAuth(name, password)
			}
		}).Code
	}
	if got := as("ops", "old"); got != 200 {
		t.Errorf("the first password: %d", got)
	}
	s.SetLogin("night", "new")
	for password, want := range map[string]int{"old": 401, "new": 200, "": 401} {
		if got := as("night", password); got != want {
			t.Errorf("password %q: %d, want %d", password, got, want)
		}
	}
	if got := as("ops", "new"); got != 401 {
		t.Errorf("the name of before: %d", got)
	}
	s.SetLogin("night", "")
	if got := as("", ""); got != 403 {
		t.Errorf("without a password the page answers to another name than localhost: %d", got)
	}
	if got := ask(s, "GET", "/").Code; got != 200 {
		t.Errorf("without a password: %d", got)
	}
}

func TestGuessedPasswordsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	var log bytes.Buffer
	opt := options(rdb, ops.UI{Enabled: true, Username: "ops", Password: "s3cret"})
	opt.Log = zerolog.New(&log)
	s, err := ops.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		ask(s, "GET", "/", as("ops", fmt.Sprintf("guess-%d", i)))
	}
	lines := strings.Count(log.String(), "wrong name or password")
	if lines == 0 || lines > 10 {
		t.Errorf("100 guesses made %d lines", lines)
	}
	if strings.Contains(log.String(), "guess-") || strings.Contains(log.String(), "s3cret") {
		t.Errorf("a password is in the log: %s", log.String())
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	running := ops.LaneState{Lane: "jiguang:news", Running: true}
	held := ops.LaneState{
		Lane: "timpush:chat", Running: true, Held: true, Reason: "credentials",
		Until: time.Date(2026, 11, 20, 3, 4, 5, 6e6, time.FixedZone("", 8*3600)),
	}
	down := ops.LaneState{Lane: "timchat:chat"}
	simulated := ops.LaneState{Lane: "timchat:chat", Running: true, Simulated: true}
	for _, c := range []struct {
		name  string
		state ops.Readiness
		code  int
		body  string
	}{
		{"one of two lanes held", ops.Readiness{Redis: true, Lanes: []ops.LaneState{running, held}}, 200,
			`{"redis":true,"lanes":[{"lane":"jiguang:news","running":true,"held":false,"reason":""},` +
				`{"lane":"timpush:chat","running":true,"held":true,"reason":"credentials","until":"2026-11-19T19:04:05.006Z"}]}`},
		{"the only lane held", ops.Readiness{Redis: true, Lanes: []ops.LaneState{held}}, 200, ""},
		{"a simulated lane", ops.Readiness{Redis: true, Lanes: []ops.LaneState{simulated}}, 200,
			`{"redis":true,"lanes":[{"lane":"timchat:chat","running":true,"held":false,"reason":"","simulated":true}]}`},
		{"one lane down", ops.Readiness{Redis: true, Lanes: []ops.LaneState{down, running}}, 200, ""},
		{"all lanes down", ops.Readiness{Redis: true, Lanes: []ops.LaneState{down}}, 503,
			`{"redis":true,"lanes":[{"lane":"timchat:chat","running":false,"held":false,"reason":""}]}`},
		{"no lanes", ops.Readiness{Redis: true}, 503, `{"redis":true,"lanes":[]}`},
		{"no Redis", ops.Readiness{Lanes: []ops.LaneState{running}}, 503, ""},
	} {
		opt := options(nil, ops.UI{})
		opt.Ready = func(ctx context.Context) ops.Readiness {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("readiness is asked without a deadline")
			}
			return c.state
		}
		s, err := ops.New(opt)
		if err != nil {
			t.Fatal(err)
		}
		w := ask(s, "GET", "/readyz")
		if w.Code != c.code {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.code)
		}
		if got := strings.TrimSpace(w.Body.String()); c.body != "" && got != c.body {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.body)
		}
	}
}

func TestADisabledPageIsNotThere(t *testing.T) {
	t.Parallel()
	s, err := ops.New(options(nil, ops.UI{}))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/": 404, "/api/queues": 404, "/healthz": 200, "/metrics": 200} {
		if w := ask(s, "GET", path); w.Code != want {
			t.Errorf("%s answers %d, want %d", path, w.Code, want)
		}
	}
}

func TestIncompleteOptionsAreAnError(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]ops.Options{
		"nothing":              {},
		"a page, but no Redis": options(nil, ops.UI{Enabled: true}),
	} {
		if _, err := ops.New(opt); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

// TestANameThatLeadsToLoopbackDoesNotOpenThePage is a site that gives its own name this machine's loopback address, so that a
// browser takes the page for the site's own.
func TestANameThatLeadsToLoopbackDoesNotOpenThePage(t *testing.T) {
	t.Parallel()
	open, _ := start(t, ops.UI{Enabled: true})
	locked, _ := start(t, ops.UI{Enabled: true, Username: "ops", Password: "s3cret"})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200, "localhost": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:8080": 403, "localhost.evil.example": 403, "10.0.0.1:8080": 403,
	} {
		if w := ask(open, "GET", "/api/queues", to(host)); w.Code != want {
			t.Errorf("without a password, host %s: %d, want %d", host, w.Code, want)
		}
		if w := ask(locked, "GET", "/api/queues", to(host), as("ops", "s3cret")); w.Code != 200 {
			t.Errorf("with the password, host %s: %d", host, w.Code)
		}
	}
}

const task = "/jiguang_0123456789abcdef0123456789abcdef"

// asynqmonChanges are all requests of asynqmon v0.7.2 that change something, and whether a writable page has them.
var asynqmonChanges = map[string]bool{
	"POST :pause": true, "POST :resume": true, "DELETE ": false,
	"POST /active_tasks" + task + ":cancel": false, "POST /active_tasks:cancel_all": false, "POST /active_tasks:batch_cancel": false,
	"DELETE /pending_tasks" + task: false, "DELETE /pending_tasks:delete_all": false, "POST /pending_tasks:batch_delete": false,
	"POST /pending_tasks" + task + ":archive": false, "POST /pending_tasks:archive_all": false, "POST /pending_tasks:batch_archive": false,
	"DELETE /scheduled_tasks" + task: false, "DELETE /scheduled_tasks:delete_all": false, "POST /scheduled_tasks:batch_delete": false,
	"POST /scheduled_tasks" + task + ":run": true, "POST /scheduled_tasks:run_all": true, "POST /scheduled_tasks:batch_run": true,
	"POST /scheduled_tasks" + task + ":archive": false, "POST /scheduled_tasks:archive_all": false, "POST /scheduled_tasks:batch_archive": false,
	"DELETE /retry_tasks" + task: false, "DELETE /retry_tasks:delete_all": false, "POST /retry_tasks:batch_delete": false,
	"POST /retry_tasks" + task + ":run": true, "POST /retry_tasks:run_all": true, "POST /retry_tasks:batch_run": true,
	"POST /retry_tasks" + task + ":archive": false, "POST /retry_tasks:archive_all": false, "POST /retry_tasks:batch_archive": false,
	"DELETE /archived_tasks" + task: false, "DELETE /archived_tasks:delete_all": false, "POST /archived_tasks:batch_delete": false,
	"POST /archived_tasks" + task + ":run": true, "POST /archived_tasks:run_all": true, "POST /archived_tasks:batch_run": true,
	"DELETE /completed_tasks" + task: false, "DELETE /completed_tasks:delete_all": false, "POST /completed_tasks:batch_delete": false,
	"DELETE /groups/g/aggregating_tasks" + task: false, "POST /groups/g/aggregating_tasks" + task + ":archive": false,
	// Words that are nearly an action.
	"PUT :pause": false, "POST :pause/": false, "POST /archived_tasks" + task + ":run:archive": false, "POST /x:run": false,
}

func TestAWritablePageRunsPausesAndResumesAndNoMore(t *testing.T) {
	t.Parallel()
	writable, _ := start(t, ops.UI{Enabled: true})
	readOnly, _ := start(t, ops.UI{Enabled: true, ReadOnly: true})
	for request, allowed := range asynqmonChanges {
		method, rest, _ := strings.Cut(request, " ")
		for _, queue := range []string{"jiguang:news", "jiguang:news:bulk"} {
			path := "/api/queues/" + queue + rest
			w := ask(writable, method, path)
			if refused := w.Code == 405; refused == allowed {
				t.Errorf("%s %s on a writable page: %d %s", method, path, w.Code, w.Body)
			}
			if !allowed && !strings.Contains(w.Body.String(), "enqueue cancel") {
				t.Errorf("%s %s does not say what to use: %s", method, path, w.Body)
			}
			w = ask(readOnly, method, path)
			if w.Code != 405 || !strings.Contains(w.Body.String(), "read-only") {
				t.Errorf("%s %s on a read-only page: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

func TestPauseReachesTheQueueAndTheClientStaysOpen(t *testing.T) {
	t.Parallel()
	s, rdb := start(t, ops.UI{Enabled: true})
	client := asynq.NewClientFromRedisClient(rdb)
	if _, err := client.Enqueue(asynq.NewTask("recall:jiguang", nil), asynq.Queue("jiguang:news:bulk")); err != nil {
		t.Fatal(err)
	}
	if w := ask(s, "POST", "/api/queues/jiguang:news:bulk:pause"); w.Code != 204 {
		t.Fatalf("pause answers %d: %s", w.Code, w.Body)
	}
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo("jiguang:news:bulk")
	if err != nil || !info.Paused {
		t.Errorf("the queue is not paused: %+v, %v", info, err)
	}
}

func TestChangesFromOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := start(t, ops.UI{Enabled: true, Username: "ops", Password: "s3cret"})
	for _, c := range []struct {
		name   string
		header func(*http.Request)
		want   int
	}{
		{"another site", with("Sec-Fetch-Site", "cross-site"), 403},
		{"another port of this host", with("Sec-Fetch-Site", "same-site"), 403},
		{"an old browser on another site", with("Origin", "https://evil.example"), 403},
		{"the page itself", with("Sec-Fetch-Site", "same-origin"), 204},
		{"the page in an old browser", with("Origin", local), 204},
		{"no browser", with("User-Agent", "curl"), 204},
	} {
		w := ask(s, "POST", "/api/queues/jiguang:news:pause", as("ops", "s3cret"), c.header)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
		if w.Code == 204 {
			ask(s, "POST", "/api/queues/jiguang:news:resume", as("ops", "s3cret"))
		}
	}
}

var (
	scriptElement = regexp.MustCompile(`(?s)<script([^>]*)>(.*?)</script>`)
	address       = regexp.MustCompile(`(?:src|href)="([^"]*)"`)
)

func TestThePolicyFitsThePageServed(t *testing.T) {
	t.Parallel()
	policies := map[string]bool{}
	for _, readOnly := range []bool{true, false} {
		s, _ := start(t, ops.UI{Enabled: true, ReadOnly: readOnly})
		for _, path := range []string{"/", "/queues/jiguang:news", "/queues/jiguang:news/tasks/x.y"} {
			w := ask(s, "GET", path)
			if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
				t.Fatalf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
			}
			policy := w.Header().Get("Content-Security-Policy")
			policies[policy] = true
			inline := 0
			for _, m := range scriptElement.FindAllStringSubmatch(w.Body.String(), -1) {
				if m[1] != "" { // it has a src
					continue
				}
				inline++
				sum := sha256.Sum256([]byte(m[2]))
				if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, "'sha256-"+hash+"'") {
					t.Errorf("read-only %v, %s: the policy lacks an inline script: %.60s", readOnly, path, m[2])
				}
			}
			if inline < 2 {
				t.Errorf("read-only %v, %s: %d inline scripts, want 2 at least", readOnly, path, inline)
			}
			for _, m := range address.FindAllStringSubmatch(w.Body.String(), -1) {
				if !strings.HasPrefix(m[1], "/") {
					t.Errorf("the page asks for %s", m[1])
				}
			}
			script, _, _ := strings.Cut(policy[strings.Index(policy, "script-src"):], ";")
			if strings.Contains(script, "unsafe") {
				t.Errorf("scripts may do more than they must: %s", script)
			}
		}
	}
	if len(policies) != 2 {
		t.Errorf("%d policies for two pages", len(policies))
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	s, _ := start(t, ops.UI{Enabled: true, ReadOnly: true, Username: "ops", Password: "s3cret"})
	for _, path := range []string{"/", "/api/queues", "/static/js/main.5adda2da.chunk.js", "/healthz", "/readyz", "/metrics", "/nowhere"} {
		for _, login := range []func(*http.Request){as("ops", "s3cret"), as("x", "y")} {
			w := ask(s, "GET", path, login, with("Origin", "https://evil.example"))
			for header, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			} {
				if got := w.Header().Get(header); got != want {
					t.Errorf("%s %d: %s is %q, want %q", path, w.Code, header, got, want)
				}
			}
			if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") {
				t.Errorf("%s %d: the policy %q lets it be framed", path, w.Code, policy)
			}
			for header := range w.Header() {
				if strings.HasPrefix(header, "Access-Control-") {
					t.Errorf("%s %d lets other origins in: %s", path, w.Code, header)
				}
			}
		}
	}
}

// TestThePageShowsNoWholeUserAndNoText asks asynqmon's API, which is what the browser gets.
func TestThePageShowsNoWholeUserAndNoText(t *testing.T) {
	t.Parallel()
	s, rdb := start(t, ops.UI{Enabled: true, ReadOnly: true})
	now := time.Now()
	r := tasks.Recall{
		Provider: "timchat", App: "chat", MessageID: "31906_833502_1572869830", From: "alice.smith", To: "bob", Ref: "order-7",
		SentAt: now.Add(-time.Hour), EnqueuedAt: now, RecallBy: now.Add(23 * time.Hour), Extra: "the words", OfflinePushTitle: "the title",
	}
	payload, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = asynq.NewClientFromRedisClient(rdb).Enqueue(asynq.NewTask("recall:timchat", payload), asynq.TaskID(r.ID()), asynq.Queue("timchat:chat"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/queues/timchat:chat/pending_tasks", "/api/queues/timchat:chat/tasks/" + r.ID()} {
		w := ask(s, "GET", path)
		body := w.Body.String()
		if w.Code != 200 || !strings.Contains(body, `order-7`) || !strings.Contains(body, `ali…`) {
			t.Errorf("%s: %d %s", path, w.Code, body)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json; charset=utf-8" {
			t.Errorf("%s is %s", path, got)
		}
		for _, hidden := range []string{"alice.smith", `bob`, "the words", "the title"} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s shows %q: %s", path, hidden, body)
			}
		}
	}
}

// TestAResultIsReadableOnATasksOwnPage holds that asynqmon does not say a result's type there.
func TestAResultIsReadableOnATasksOwnPage(t *testing.T) {
	t.Parallel()
	s, rdb := start(t, ops.UI{Enabled: true, ReadOnly: true})
	fill(t, rdb)
	var list struct {
		Tasks []struct{ ID, Result string }
	}
	if err := json.Unmarshal(ask(s, "GET", "/api/queues/jiguang:news/completed_tasks").Body.Bytes(), &list); err != nil || len(list.Tasks) != 1 {
		t.Fatalf("%v, %+v", err, list)
	}
	var one struct{ Result string }
	if err := json.Unmarshal(ask(s, "GET", "/api/queues/jiguang:news/tasks/"+list.Tasks[0].ID).Body.Bytes(), &one); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(one.Result, `{"outcome":"recalled","code":"0","attempts":1,"finished at":"`) {
		t.Errorf("the result is %s", one.Result)
	}
	if diff := cmp.Diff(list.Tasks[0].Result, one.Result); diff != "" {
		t.Errorf("list and page differ:\n%s", diff)
	}
}
