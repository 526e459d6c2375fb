package registry

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
)

func apps() []config.App {
	all := []config.App{
		{Provider: providers.Jiguang, Settings: jiguang.Config{ChannelKey: "key", MasterSecret: "secret"}},
		{Provider: providers.EngageLab, Settings: engagelab.Config{AppKey: "key", MasterSecret: "secret"}},
		{Provider: providers.TIMPush, Settings: timpush.Config{SDKAppID: 1400000000, SecretKey: "secret", OfflinePushTitle: "gone"}},
		{Provider: providers.TIMChat, Settings: timchat.Config{SDKAppID: 1400000000, SecretKey: "secret"}},
		{Provider: providers.RongCloud, Settings: rongcloud.Config{AppKey: "key", AppSecret: "secret"}},
	}
	for i := range all {
		all[i].Name, all[i].Timeout, all[i].BaseURL = "a", time.Second, all[i].Settings.BaseURL()
	}
	return all
}

func request() providers.Request {
	return providers.Request{MessageID: "1_1_1600000000", From: "f", To: "t"}
}

// TestBuildCallsTheVendor builds each provider and sees its one call arrive where the configuration says.
func TestBuildCallsTheVendor(t *testing.T) {
	t.Parallel()
	paths := map[string]string{
		providers.Jiguang: "/v1/retract/", providers.EngageLab: "/v4/push/withdraw/", providers.TIMPush: "/v4/timpush/revoke",
		providers.TIMChat: "/v4/openim/admin_msgwithdraw", providers.RongCloud: "/message/broadcast/recall.json",
	}
	if len(apps()) != len(providers.Names()) {
		t.Fatal("the test does not know every provider")
	}
	for i, app := range apps() {
		if app.Provider != providers.Names()[i] {
			t.Errorf("the test has %s in the place of %s", app.Provider, providers.Names()[i])
		}
		called := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			called <- r.URL.Path
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		t.Cleanup(server.Close)
		app.BaseURL = server.URL
		p, err := Build(app)
		if err != nil {
			t.Fatalf("%s: %v", app.Provider, err)
		}
		_, err = p.Recall(t.Context(), request())
		p.Close()
		if f := providers.AsFault(err); f == nil || f.Kind != providers.Unavailable {
			t.Errorf("%s: %v", app.Provider, err)
		}
		if path := <-called; !strings.HasPrefix(path, paths[app.Provider]) || len(called) != 0 {
			t.Errorf("%s called %s, and %d times more", app.Provider, path, len(called))
		}
	}
}

func TestBuildRefusesWhatIsNoProvider(t *testing.T) {
	t.Parallel()
	if p, err := Build(config.App{Provider: "x", Name: "a"}); err == nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
	bad := apps()[0]
	bad.Settings = jiguang.Config{}
	if p, err := Build(bad); err == nil || p != nil {
		t.Errorf("settings without a secret: %v, %v", p, err)
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	add := func(what string, app config.App) {
		f := Fingerprint(app)
		if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(f) {
			t.Errorf("%s: %q", what, f)
		}
		if other, ok := seen[f]; ok {
			t.Errorf("%s and %s have the same fingerprint", what, other)
		}
		seen[f] = what
		if again := Fingerprint(app); again != f {
			t.Errorf("%s: %s, then %s", what, f, again)
		}
	}
	for _, app := range apps() {
		add(app.Provider, app)
		app.BaseURL = "http://127.0.0.1:1"
		add(app.Provider+" elsewhere", app)
	}
	app := apps()[3]
	app.Settings = timchat.Config{SDKAppID: 1400000000, SecretKey: "secret2"}
	add("another secret", app)
	app.Settings = timchat.Config{SDKAppID: 1400000001, SecretKey: "secret"}
	add("another account", app)
	app.Settings = timchat.Config{SDKAppID: 1400000000, SecretKey: "secret", Identifier: "boss"}
	add("another identifier", app)

	// What has no part in the credentials does not change it: a hold must not be forgotten because of a text or a limit.
	app = apps()[2]
	before := Fingerprint(app)
	app.Settings = timpush.Config{SDKAppID: 1400000000, SecretKey: "secret", OfflinePushTitle: "another"}
	app.Timeout, app.Concurrency, app.Window, app.Name = time.Minute, 9, time.Hour, "b"
	if Fingerprint(app) != before {
		t.Error("the fingerprint changes with what is no credential")
	}
}

func TestFramed(t *testing.T) {
	t.Parallel()
	if framed([]string{"ab", "c"}) == framed([]string{"a", "bc"}) || framed([]string{"1:a"}) == framed([]string{"a"}) {
		t.Error("two lists are framed alike")
	}
}

func TestSharedAccount(t *testing.T) {
	t.Parallel()
	all := apps()
	push, chat := all[2], all[3]
	if SharedAccount(push) == "" || SharedAccount(push) != SharedAccount(chat) {
		t.Errorf("%q and %q, want the same", SharedAccount(push), SharedAccount(chat))
	}
	chat.Settings = timchat.Config{SDKAppID: 1400000001, SecretKey: "secret"}
	if SharedAccount(push) == SharedAccount(chat) {
		t.Error("two SDKAppIDs are taken for one")
	}
	for _, i := range []int{0, 1, 4} {
		if got := SharedAccount(all[i]); got != "" {
			t.Errorf("%s shares %q", all[i].Provider, got)
		}
	}
}

func TestDefaultText(t *testing.T) {
	t.Parallel()
	for _, app := range apps() {
		if (DefaultText(app) != "") != (app.Provider == providers.TIMPush) {
			t.Errorf("%s: %q", app.Provider, DefaultText(app))
		}
	}
}
