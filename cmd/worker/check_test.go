package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/redistest"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
)

// Only an answer of the vendor's says that credentials work: a proxy, a parking page or another API may answer anything.
func TestOnlyTheVendorsAnswerSaysThatCredentialsWork(t *testing.T) {
	t.Parallel()
	const page = "<html><body>nothing here</body></html>"
	foreign := []struct {
		status     int
		kind, body string
	}{
		{400, "text/html", page}, {401, "text/html", page}, {403, "text/html", page}, {404, "text/html", page}, {410, "text/html", page},
		{422, "application/json", `{"message":"unprocessable"}`}, {400, "application/json", `{"error":"bad request","status":400}`},
		{404, "application/json", `{"code":404,"message":"no route"}`}, {429, "text/html", page}, {451, "", ""},
		{200, "text/html", page}, {200, "application/json", `{}`}, {302, "text/html", page}, {503, "text/html", page},
	}
	for _, app := range []config.App{
		{Provider: providers.Jiguang, Settings: jiguang.Config{ChannelKey: "k", MasterSecret: "s"}},
		{Provider: providers.EngageLab, Settings: engagelab.Config{AppKey: "k", MasterSecret: "s"}},
		{Provider: providers.TIMPush, Settings: timpush.Config{SDKAppID: 1, SecretKey: "s"}},
		{Provider: providers.TIMChat, Settings: timchat.Config{SDKAppID: 1, SecretKey: "s"}},
		{Provider: providers.RongCloud, Settings: rongcloud.Config{AppKey: "k", AppSecret: "s"}},
	} {
		for _, answer := range foreign {
			if app.Provider == providers.RongCloud && strings.Contains(answer.body, `"code":404`) {
				continue // that is RongCloud's own word for it
			}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", answer.kind)
				w.WriteHeader(answer.status)
				_, _ = w.Write([]byte(answer.body))
			}))
			app.BaseURL, app.Timeout = srv.URL, 5*time.Second
			if says, ok := harmless(t.Context(), app); ok || strings.Contains(says, "the credentials work") {
				t.Errorf("%s: %d %s is taken for the vendor's: %s", app.Provider, answer.status, answer.body, says)
			}
			srv.Close()
		}
	}
}

const twoLanes = `redis: {url: "{REDIS}"}
listen: 127.0.0.1:0
apps:
  - {provider: jiguang, app: slow, channel_key: k, master_secret: s, base_url: "{VENDORS}"}
  - {provider: engagelab, app: quick, app_key: k, master_secret: s, base_url: "{VENDORS}"}
`

// checked runs --check-config against a vendor of the test's own.
func checked(t *testing.T, vendor http.HandlerFunc, args ...string) *running {
	t.Helper()
	srv := httptest.NewServer(vendor)
	t.Cleanup(srv.Close)
	r := newRunning(t, "redis://"+miniredis.RunT(t).Addr()+"/0", strings.ReplaceAll(twoLanes, "{VENDORS}", srv.URL))
	r.start(append([]string{"--check-config"}, args...)...)
	return r
}

// The calls are made side by side, so that ten accounts do not take ten timeouts, and are told in the order of the file.
func TestTheChecksCallsAreMadeSideBySide(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	quickHasAnswered := make(chan struct{})
	r := checked(t, func(w http.ResponseWriter, req *http.Request) {
		both.Done()
		both.Wait() // for the other one
		if strings.HasPrefix(req.URL.Path, "/v1/retract/") {
			<-quickHasAnswered
			_, _ = w.Write([]byte(`{"code":0}`))
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":{"code":21003,"message":"msg_id not exist"}}`))
		close(quickHasAnswered)
	}, "--call")
	if code := r.exit(8 * time.Second); code != exitOK { // their timeout is 10 s
		t.Errorf("left with %d", code)
	}
	slow, quick := strings.Index(r.said(), "call      jiguang:slow: "), strings.Index(r.said(), "call      engagelab:quick: ")
	if slow < 0 || quick < slow {
		t.Errorf("not in the order of the file:\n%s", r.said())
	}
}

func TestASignalEndsTheCheck(t *testing.T) {
	called := make(chan struct{}, 2)
	release := make(chan struct{})
	defer close(release)
	r := checked(t, func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-release
	}, "--call")
	<-called
	r.signals <- os.Interrupt
	if code := r.exit(5 * time.Second); code != exitFailure {
		t.Errorf("left with %d", code)
	}
	if !strings.Contains(r.said(), "worker: interrupted") {
		t.Error("it does not say that it was interrupted")
	}
}

// What the worker refuses at its start is not good in the check.
func TestTheCheckRefusesTheRedisThatTheWorkerRefuses(t *testing.T) {
	durable := strings.Replace(oneLane, `{url: "{REDIS}"}`, `{url: "{REDIS}", require_durable: true}`, 1)
	for name, c := range map[string]struct {
		redis, config, want string
	}{
		"keeps nothing": {redistest.Start(t, "--appendonly", "no").URL, durable, "redis.require_durable: redis keeps nothing on disk"},
		"a replica":     {redistest.Start(t, "--replicaof", "127.0.0.1 1").URL, oneLane, "redis is a read-only replica"},
	} {
		r := newRunning(t, c.redis, c.config)
		r.start("--check-config")
		if code := r.exit(20 * time.Second); code != exitFailure {
			t.Errorf("%s: left with %d", name, code)
		}
		if !strings.Contains(r.said(), ": "+c.want) || !strings.Contains(r.said(), "worker: redis cannot be used") {
			t.Errorf("%s:\n%s", name, r.said())
		}
	}
	r := newRunning(t, redistest.Start(t, "--appendonly", "no").URL, oneLane)
	r.start("--check-config")
	if code := r.exit(20 * time.Second); code != exitOK || !strings.Contains(r.said(), "\nwarning   redis keeps nothing on disk") {
		t.Errorf("left with %d", code)
	}
}

// The demo serves its page elsewhere where the usual address is taken, and says why.
func TestTheDemoSaysWhyItsPageIsElsewhere(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", demoListen); err == nil { // else somebody else has taken it
		defer l.Close()
	}
	cfg, taken, err := demoConfig("http://127.0.0.1:1", "")
	if err != nil || !taken || cfg.Listen != "127.0.0.1:0" {
		t.Errorf("%v, %v, listens on %s", err, taken, cfg.Listen)
	}
	if got, want := remark(taken), " (127.0.0.1:8080 is taken; another one is chosen with --listen)"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}
