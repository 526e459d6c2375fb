package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
)

// write puts files into a new folder and returns the path of recallq.yaml in it.
func write(t testing.TB, text string, others map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "recallq.yaml")
	put(t, path, text)
	for name, text := range others {
		put(t, filepath.Join(dir, name), text)
	}
	return path
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func from(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func load(t *testing.T, path string, env map[string]string) *Config {
	t.Helper()
	c, err := Load(path, from(env))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sameConfig compares configurations field by field, past their printing.
var sameConfig = cmp.Options{
	cmpopts.IgnoreUnexported(App{}),
	cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
}

const small = `apps:
  - {provider: jiguang, app: news, channel_key: key1, master_secret: secret1}
`

// Where the environment says where Redis is, what the file says of that does not count.
func TestTheFilesRedisDoesNotCountBesideTheEnvironments(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"redis: {url: '${UNSET}'}\n", "redis: {cluster: ['${UNSET}']}\n", "redis: {url: 'http://no'}\n"} {
		path := filepath.Join(t.TempDir(), "recallq.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		set := func(name string) (string, bool) { return "redis://10.0.0.1:6379/0", name == RedisURLVariable }
		if o, err := LoadRedis(path, "", set); err != nil || o.URL != "redis://10.0.0.1:6379/0" || len(o.Cluster) > 0 {
			t.Errorf("%s: %+v, %v", file, o, err)
		}
		if _, err := LoadRedis(path, "", func(string) (string, bool) { return "", false }); err == nil {
			t.Errorf("%s is taken", file)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	path := write(t, `apps:
  - {provider: jiguang, app: a, channel_key: key1, master_secret: s1}
  - {provider: engagelab, app: a, app_key: key2, master_secret: s2}
  - {provider: timpush, app: a, sdk_app_id: 1400000000, secret_key: s3}
  - {provider: timchat, app: a, sdk_app_id: 1400000000, secret_key: s4}
  - {provider: rongcloud, app: a, app_key: key5, app_secret: s5}
`, nil)
	app := func(line, concurrency int, provider, baseURL string, settings Settings, limits ...providers.Limit) App {
		return App{
			Provider: provider, Name: "a", BaseURL: baseURL, Timeout: 10 * time.Second, Concurrency: concurrency,
			Window: 24 * time.Hour, Limits: limits, Line: line, Settings: settings,
		}
	}
	want := &Config{
		Path: path, Listen: "127.0.0.1:8080", Retention: 24 * time.Hour,
		UI: UI{Enabled: true, ReadOnly: true, Username: "ops"},
		Apps: []App{
			app(2, 16, "jiguang", "https://api.ums.jiguang.cn", jiguang.Config{ChannelKey: "key1", MasterSecret: "s1"}),
			app(3, 32, "engagelab", "https://pushapi-sgp.engagelab.com", engagelab.Config{AppKey: "key2", MasterSecret: "s2"},
				providers.Limit{Calls: 250, Per: time.Second}),
			app(4, 2, "timpush", "https://console.tim.qq.com", timpush.Config{SDKAppID: 1400000000, SecretKey: "s3"},
				providers.Limit{Calls: 1, Per: time.Second}),
			app(5, 32, "timchat", "https://console.tim.qq.com", timchat.Config{SDKAppID: 1400000000, SecretKey: "s4"},
				providers.Limit{Calls: 100, Per: time.Second}),
			app(6, 2, "rongcloud", "https://api.rong-api.com", rongcloud.Config{AppKey: "key5", AppSecret: "s5"},
				providers.Limit{Calls: 2, Per: time.Hour}, providers.Limit{Calls: 3, Day: true, TimeZone: providers.Shanghai()}),
		},
	}
	if diff := cmp.Diff(want, load(t, path, nil), sameConfig); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEverythingSet(t *testing.T) {
	t.Parallel()
	path := write(t, `
redis:
  url: rediss-sentinel://h1:26379,h2:26379/3?master=mymaster
  username: ${REDIS_USER}
  password_file: redis
  sentinel_password_file: sentinel
  require_durable: true
listen: 0.0.0.0:9090
ui: {enabled: true, read_only: false, username: admin, password_file: ui}
retention: 48h
apps:
  - provider: rongcloud
    app: community
    app_key: "12345"
    app_secret_file: rong
    data_center: singapore_b
    base_url: http://127.0.0.1:9999/prefix/
    timeout: 500ms
    concurrency: 7
    window: 72h
    limits: [{calls: 1, per: 1s}, {calls: 30, per: 1m}, {calls: 3, per: day, time_zone: Europe/Berlin}, {calls: 9, per: 1h}]
  - provider: timpush
    app: chat
    sdk_app_id: ${SDK_APP_ID}
    secret_key: ${SECRET_KEY}
    identifier: boss
    region: tokyo
    offline_push_title: 撤回
    offline_push_desc: "yes"
    limits: []
  - provider: jiguang
    app: digits
    channel_key: 0123
    master_secret: 1e10
`, map[string]string{"redis": "redis-secret\n", "sentinel": "sentinel-secret\r\n", "ui": "ui-secret\n\n", "rong": "rong-secret"})
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	got := load(t, path, map[string]string{"REDIS_USER": "worker", "SDK_APP_ID": "1400000001", "SECRET_KEY": "tencent-secret"})
	want := &Config{
		Path: path,
		Redis: redisconn.Options{
			URL: "rediss-sentinel://h1:26379,h2:26379/3?master=mymaster", Username: "worker", Password: "redis-secret",
			SentinelPassword: "sentinel-secret", RequireDurable: true,
		},
		Listen: "0.0.0.0:9090", Retention: 48 * time.Hour,
		UI: UI{Enabled: true, Username: "admin", Password: "ui-secret"},
		Apps: []App{
			{
				Provider: "rongcloud", Name: "community", BaseURL: "http://127.0.0.1:9999/prefix", Simulated: true,
				Timeout: 500 * time.Millisecond, Concurrency: 7, Window: 72 * time.Hour, Line: 12,
				Limits: []providers.Limit{
					{Calls: 1, Per: time.Second},
					{Calls: 30, Per: time.Minute},
					{Calls: 3, Day: true, TimeZone: berlin},
					{Calls: 9, Per: time.Hour},
				},
				Settings: rongcloud.Config{AppKey: "12345", AppSecret: "rong-secret", DataCenter: "singapore_b"},
			},
			{
				Provider: "timpush", Name: "chat", BaseURL: "https://adminapijpn.im.qcloud.com",
				Timeout: 10 * time.Second, Concurrency: 2, Window: 24 * time.Hour, Line: 22,
				Settings: timpush.Config{
					SDKAppID: 1400000001, SecretKey: "tencent-secret", Identifier: "boss", Region: "tokyo",
					OfflinePushTitle: "撤回", OfflinePushDesc: "yes",
				},
			},
			{
				Provider: "jiguang", Name: "digits", BaseURL: "https://api.ums.jiguang.cn",
				Timeout: 10 * time.Second, Concurrency: 16, Window: 24 * time.Hour, Line: 31,
				Settings: jiguang.Config{ChannelKey: "0123", MasterSecret: "1e10"},
			},
		},
	}
	if diff := cmp.Diff(want, got, sameConfig); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	holdsNone(t, got, "redis-secret", "sentinel-secret", "ui-secret", "rong-secret", "tencent-secret", "1e10")
}

// holdsNone prints a configuration in every way that Go has, and looks for secrets.
func holdsNone(t *testing.T, c *Config, secrets ...string) {
	t.Helper()
	var all strings.Builder
	for _, v := range []any{c, *c, c.UI, &c.UI, c.Apps, c.Apps[0], &c.Apps[0], c.Redis, struct{ C Config }{*c}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%v %+v %#v %s %s\n", v, v, v, v, text)
	}
	for _, secret := range secrets {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%q is shown:\n%s", secret, all.String())
		}
	}
	if !strings.Contains(all.String(), c.Apps[0].Lane()) {
		t.Errorf("the lane is not shown:\n%s", all.String())
	}
}

func TestLoopbackBaseURLs(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"http://127.0.0.1:1", "http://127.9.8.7", "http://[::1]:1", "http://localhost:1", "http://LOCALHOST", "https://example.com:8443/a/b",
	} {
		path := write(t, strings.Replace(small, "secret1", "secret1, base_url: '"+base+"'", 1), nil)
		if c := load(t, path, nil); c.Apps[0].BaseURL != base || !c.Apps[0].Simulated {
			t.Errorf("%s: %v", base, c.Apps[0])
		}
	}
	path := write(t, strings.Replace(small, "secret1", "secret1, base_url: 'https://api.ums.jiguang.cn/'", 1), nil)
	if c := load(t, path, nil); c.Apps[0].Simulated {
		t.Errorf("the vendor's own url is marked as simulated: %v", c.Apps[0])
	}
}

// A vendor's other hosts are the vendor as well, however they are written; nobody else's are.
func TestALaneIsSimulatedOnlyIfItsHostIsNotTheVendors(t *testing.T) {
	t.Parallel()
	accounts := map[string]string{
		providers.Jiguang:   "channel_key: k, master_secret: s",
		providers.EngageLab: "app_key: k, master_secret: s",
		providers.TIMPush:   "sdk_app_id: 1400000000, secret_key: s",
		providers.TIMChat:   "sdk_app_id: 1400000000, secret_key: s",
		providers.RongCloud: "app_key: k, app_secret: s",
	}
	for provider, hosts := range map[string][]string{
		providers.Jiguang:   {"api.ums.jiguang.cn", "API.UMS.Jiguang.cn", "api.ums.jiguang.cn:443", "api.ums.jiguang.cn./", "api.ums.jiguang.cn/v1"},
		providers.EngageLab: {"pushapi-sgp.engagelab.com", "pushapi-hk.engagelab.com", "push.api.engagelab.cc", "push-defra.api.engagelab.cc"},
		providers.TIMPush:   {"console.tim.qq.com", "adminapi.my-imcloud.com", "adminapiger.im.qcloud.com", "adminapijpn.my-imcloud.com"},
		providers.TIMChat:   {"console.tim.qq.com", "console.tim.qq.com:443", "adminapisgp.my-imcloud.com", "adminapiusa.im.qcloud.com", "adminapiind.my-imcloud.com"},
		providers.RongCloud: {"api.rong-api.com", "api-b.rong-api.com", "api-b.us-light-api.com", "api.sau-light-api.com", "api2-cn.ronghub.com"},
	} {
		strange := []string{"example.com", hosts[0] + ".example.com", "x" + hosts[0], "example.com/" + hosts[0]}
		for i, host := range append(hosts, strange...) {
			text := fmt.Sprintf("apps: [{provider: %s, app: a, %s, base_url: 'https://%s'}]", provider, accounts[provider], host)
			app := load(t, write(t, text, nil), nil).Apps[0]
			if want := i >= len(hosts); app.Simulated != want {
				t.Errorf("%s at %s: simulated %t, want %t", provider, host, app.Simulated, want)
			}
		}
		text := fmt.Sprintf("apps: [{provider: %s, app: a, %s}]", provider, accounts[provider])
		if app := load(t, write(t, text, nil), nil).Apps[0]; app.Simulated {
			t.Errorf("%s without base_url is simulated", provider)
		}
	}
}

// A window of the vendor's own cannot be widened; where the vendor documents none, it is ours to choose.
func TestWindowsBeyondTheVendors(t *testing.T) {
	t.Parallel()
	c := load(t, write(t, `
apps:
  - {provider: jiguang, app: a, channel_key: k, master_secret: s, window: 24h1s}
  - {provider: engagelab, app: b, app_key: k, master_secret: s, window: 1h}
  - {provider: timpush, app: c, sdk_app_id: 1, secret_key: s, window: 72h}
  - {provider: timchat, app: d, sdk_app_id: 1, secret_key: s, window: 720h}
  - {provider: rongcloud, app: e, app_key: k, app_secret: s, window: 72h}
`, nil), nil)
	var names []string
	for _, app := range c.BeyondVendor() {
		names = append(names, app.Lane())
	}
	if diff := cmp.Diff([]string{"jiguang:a", "timpush:c"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	open, closed := UI{Enabled: true}, UI{Enabled: true, Password: "x"}
	cases := []struct {
		listen string
		ui     UI
		ok     bool
	}{
		{"127.0.0.1:8080", open, true},
		{"127.1.2.3:0", open, true},
		{"localhost:8080", open, true},
		{"[::1]:8080", open, true},
		{"0.0.0.0:8080", open, false},
		{":8080", open, false},
		{"[::]:8080", open, false},
		{"10.0.0.1:8080", open, false},
		{"example.com:8080", open, false},
		{"[::ffff:127.0.0.1]:8080", open, false},
		{"0.0.0.0:8080", closed, true},
		{"0.0.0.0:8080", UI{}, true},
		{"8080", closed, false},
		{"h:65536", closed, false},
		{"", closed, false},
	}
	for _, c := range cases {
		if err := CheckListen(c.listen, c.ui); (err == nil) != c.ok {
			t.Errorf("%q, %v: %v", c.listen, c.ui, err)
		}
	}
}

// An address that is given over the file's takes its place before it is looked at.
func TestAnotherAddressReplacesTheFiles(t *testing.T) {
	t.Parallel()
	for _, inFile := range []string{"0.0.0.0:8080", "nonsense"} {
		path := write(t, "listen: '"+inFile+"'\n"+small, nil)
		if _, err := Load(path, environment); err == nil {
			t.Errorf("%s without a password loads", inFile)
		}
		c, err := LoadListening(path, "127.0.0.1:1", environment)
		if err != nil || c.Listen != "127.0.0.1:1" {
			t.Errorf("%s: %v, %v", inFile, c, err)
		}
	}
}

func TestLoadRedisNeedsNoApps(t *testing.T) {
	t.Parallel()
	path := write(t, `
redis: {url: redis://h/2, password_file: redis}
listen: nonsense
apps:
  - {provider: jiguang, app: news, channel_key: k, master_secret_file: not-here, timeout: 10}
  - {provider: jiguang, app: "x y", channel_key: "${UNSET}"}
`, map[string]string{"redis": "redis-secret"})
	got, err := LoadRedis(path, "", from(nil))
	want := redisconn.Options{URL: "redis://h/2", Password: "redis-secret"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := LoadRedis(write(t, "redis: {urll: x}", nil), "", from(nil)); err == nil {
		t.Error("an unknown key of the redis section is taken")
	}
	if got, err := LoadRedis(write(t, "", nil), "", from(nil)); err != nil || got.URL != "" {
		t.Errorf("an empty file: %v, %v", got, err)
	}
}

func TestRedisURLFromEnvironment(t *testing.T) {
	t.Parallel()
	path := write(t, "redis: {cluster: [h:1], username: u, password: p, ca_file: nowhere}\n"+small, nil)
	env := map[string]string{RedisURLVariable: "redis://:other@elsewhere/1"}
	if got := load(t, path, env).Redis; got.URL != env[RedisURLVariable] || got.Cluster != nil || got.Password != "" || got.CAFile != "" {
		t.Errorf("%+v", got)
	}
	_, err := Load(path, from(map[string]string{RedisURLVariable: "redis://:topsecret"}))
	if err == nil || !strings.Contains(err.Error(), "recallq.yaml: "+RedisURLVariable+": host 1") || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("%v", err)
	}
	_, err = Load(path, from(map[string]string{RedisURLVariable: "redis://operator@elsewhere"}))
	if want := "recallq.yaml: " + RedisURLVariable + ": names a user but no password; write it into the url, as user:password@host"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

// A password that was given elsewhere counts over the file's, of which nothing is read then.
func TestAPasswordFromElsewhereGoesWithTheFilesUser(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"username: u", "username: u, password: other", "username: u, password_file: nowhere", "url: 'redis://u@h'"} {
		got, err := LoadRedis(write(t, "redis: {"+text+"}", nil), "given", from(nil))
		if err != nil || got.Password != "given" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	path := write(t, `apps:
  - {provider: jiguang, app: news, channel_key: key1, master_secret_file: s}
  - {provider: jiguang, app: fixed, channel_key: key2, master_secret: secret2}
`, map[string]string{"s": "first"})
	c := load(t, path, nil)
	app, file := c.Apps[0], filepath.Join(filepath.Dir(path), "s")

	same, changed, err := app.Reload()
	if err != nil || changed || same.Settings != app.Settings {
		t.Errorf("nothing has changed: %v, %t, %v", same.Settings.Secrets(), changed, err)
	}

	put(t, file, "second\n")
	next, changed, err := app.Reload()
	if err != nil || !changed || next.Settings.Secrets()[0] != "second" || next.Settings.Account() != "key1" {
		t.Errorf("a new secret: %v, %t, %v", next.Settings, changed, err)
	}
	if app.Settings.Secrets()[0] != "first" {
		t.Error("the app that was reloaded has changed itself")
	}

	for name, bad := range map[string]string{"empty": "\n", "with a space": "topsecret topsecret"} {
		put(t, file, bad)
		kept, changed, err := next.Reload()
		var configError *Error
		if !errors.As(err, &configError) || changed || kept.Settings.Secrets()[0] != "second" || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("a secret that is %s: %v, %t, %v", name, kept.Settings.Secrets(), changed, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if kept, changed, err := next.Reload(); err == nil || changed || kept.Settings.Secrets()[0] != "second" {
		t.Errorf("a missing file: %v, %t, %v", kept.Settings.Secrets(), changed, err)
	}

	if _, changed, err := c.Apps[1].Reload(); err != nil || changed {
		t.Errorf("an app without files: %t, %v", changed, err)
	}
}

const example = "../../recallq.example.yaml"

// TestExampleLoads holds that the example is a configuration, given the variables it names and nothing else.
func TestExampleLoads(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		value, _, _ := strings.Cut(line, "#")
		for _, m := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(value, -1) {
			env[m[1]] = "from-" + m[1]
		}
	}
	c := load(t, example, env)
	var names []string
	for _, app := range c.Apps {
		names = append(names, app.Provider)
		if app.Simulated {
			t.Errorf("%s is simulated", app.Lane())
		}
		spec, _ := providers.Lookup(app.Provider)
		if diff := cmp.Diff(spec.Limits, app.Limits, sameConfig, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: the example says that these limits are the default (-default +example):\n%s", app.Lane(), diff)
		}
	}
	if diff := cmp.Diff(providers.Names(), names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What is commented out must be right as well: with each such line alone put in, only what contradicts another line,
	// or a file that is not there, is wrong.
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		key := regexp.MustCompile(`^(\s*)# ([a-z_]+: .*)$`).FindStringSubmatch(line)
		if key == nil {
			continue
		}
		changed := append([]string{}, lines...)
		changed[i] = key[1] + key[2]
		_, err := Load(write(t, strings.Join(changed, "\n"), nil), from(withCommented(env)))
		if err != nil && !regexp.MustCompile(`give one of the two|no such file|belong together|write rediss://|without a password|redis-sentinel:// url only`).MatchString(err.Error()) {
			t.Errorf("line %d, put in: %v", i+1, err)
		}
		if err != nil && strings.Contains(err.Error(), "not known") {
			t.Errorf("line %d, put in: %v", i+1, err)
		}
	}
}

func withCommented(env map[string]string) map[string]string {
	all := map[string]string{"RECALLQ_REDIS_PASSWORD": "x", "RECALLQ_SENTINEL_PASSWORD": "x", "RECALLQ_UI_PASSWORD": "x"}
	for name, value := range env {
		all[name] = value
	}
	return all
}

// TestExampleIsComplete holds that every key that the decoder knows is in the example.
func TestExampleIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{"the file": topKeys, "redis": redisKeys, "ui": uiKeys, "apps": appKeys, "limits": limitKeys}
	for _, name := range providers.Names() {
		settings, ok := newSettings(name)
		if !ok {
			t.Fatalf("%s has no settings", name)
		}
		known[name] = settings.keys()
	}
	for where, keys := range known {
		for _, key := range keys {
			if !regexp.MustCompile(`(?m)(^|[\s{,])` + key + `: ?`).Match(text) {
				t.Errorf("%s: the key %s is not in the example", where, key)
			}
		}
	}
}

// TestSettingsHaveTags holds what the decoder relies on in the providers' Config types.
func TestSettingsHaveTags(t *testing.T) {
	t.Parallel()
	for _, name := range providers.Names() {
		settings, _ := newSettings(name)
		secrets := 0
		for i := range settings.NumField() {
			f := settings.Field(i)
			if keyOf(f) == "" {
				t.Errorf("%s: the field %s has no yaml tag", name, f.Name)
			}
			if isSecret(f) {
				secrets++
			}
		}
		if secrets == 0 {
			t.Errorf("%s has no secret", name)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, example) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d := newDecoder("f", "testdata/faults", environment)
		root := d.parse(text)
		if d.err() != nil {
			return
		}
		c := d.config(root)
		if err := d.err(); err != nil {
			for _, fault := range err.(*Error).Faults {
				if fault.Reason == "" || strings.ContainsAny(fault.Reason, "\r\n") {
					t.Errorf("a fault that is not one line: %q", fault.Reason)
				}
			}
			return
		}
		if len(c.Apps) == 0 {
			t.Error("no apps, and no fault")
		}
		for _, app := range c.Apps {
			if app.Settings == nil || app.Settings.Check() != nil || app.BaseURL == "" || app.Timeout <= 0 || app.Concurrency < 1 || app.Window <= 0 {
				t.Errorf("a bad app, and no fault: %v", app)
			}
			for _, l := range app.Limits {
				if l.Calls < 1 || l.Day == (l.Per > 0) {
					t.Errorf("a bad limit, and no fault: %+v", l)
				}
			}
		}
	})
}
