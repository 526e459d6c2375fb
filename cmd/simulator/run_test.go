package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// program is a running simulator.
type program struct {
	url    string
	out    *bufio.Reader
	err    *buffer
	cancel context.CancelFunc
	code   chan int
}

// launch runs the program on a free port until the test ends.
func launch(t *testing.T, stdin string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	p := &program{out: bufio.NewReader(out), err: &buffer{}, cancel: cancel, code: make(chan int, 1)}
	go func() {
		code := run(ctx, append([]string{"--listen", "127.0.0.1:0"}, args...), noEnv, strings.NewReader(stdin), in, p.err)
		_ = in.Close()
		p.code <- code
	}()
	t.Cleanup(func() {
		cancel()
		_, _ = io.Copy(io.Discard, out)
	})
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("no output (%v); standard error:\n%s", err, p.err)
	}
	p.url = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	return p
}

func noEnv(string) (string, bool) { return "", false }

// retract calls the simulator with Jiguang's sample credentials and returns the answer's body.
func retract(t *testing.T, url, id, key, secret string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url+"/v1/retract/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(key+":"+secret)))
	return answer(t, r)
}

func answer(t *testing.T, r *http.Request) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	a, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func control(t *testing.T, p *program, method, path, body string) string {
	t.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answer(t, r)
}

const (
	sampleKey    = "7d431e42dfa6a6d693ac2d04"
	sampleSecret = "5e987ac6d2e04d95a9d8f0d1"
)

func TestServes(t *testing.T) {
	t.Parallel()
	p := launch(t, `{"provider":"jiguang","id":"a"}`+"\n", "--messages", "-", "--verbose")
	for _, want := range []string{`{ "code":0, "message":"success" }`, `{ "code":1015055, "message":"消息已经被撤回" }`} {
		if got := retract(t, p.url, "a", sampleKey, sampleSecret); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := control(t, p, "POST", "/_sim/faults", `{"code":"5000"}`); got != "{\"fault\":1}\n" {
		t.Error(got)
	}
	if got := retract(t, p.url, "a", sampleKey, sampleSecret); !strings.Contains(got, "5000") {
		t.Error(got)
	}
	if got := control(t, p, "GET", "/_sim/ledger", ""); strings.Count(got, "\n") != 3 {
		t.Errorf("ledger:\n%s", got)
	}
	p.cancel()
	if code := <-p.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"simulator: messages known: 1\n", "sample accounts", `"id":"a","status":400,"code":"1015055","recalled":false}`,
		"simulator: stopped; calls: 3, messages recalled: 1, over a limit: 0, gone wrong on request: 1, to unknown paths: 0\n",
	} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, p.err)
		}
	}
	if strings.Contains(p.err.String(), sampleSecret) {
		t.Error("a secret is on standard error")
	}
}

// TestSignal shows that SIGTERM ends the program cleanly, also while a call hangs.
func TestSignal(t *testing.T) {
	p := launch(t, "", "--know-all", "--mix", "100% hang")
	hanging := make(chan struct{})
	r, err := http.NewRequest(http.MethodPost, p.url+"/v1/retract/v:1t:1603707455p:1n:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(sampleKey, sampleSecret)
	go func() {
		defer close(hanging)
		transport := &http.Transport{DisableKeepAlives: true}
		if a, err := (&http.Client{Transport: transport}).Do(r); err == nil {
			_ = a.Body.Close()
		}
	}()
	for !strings.Contains(control(t, p, "GET", "/_sim/ledger", ""), `"fault":"hang"`) {
		select {
		case <-hanging:
			t.Fatal("the call did not hang")
		default:
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-p.code; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	<-hanging
}

// TestPrintConfig shows that the printed configuration holds the accounts that the simulator takes.
func TestPrintConfig(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "--print-config")
	var text strings.Builder
	for { // up to the last of the apps, since standard output stays open
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(line)
		if strings.Contains(line, "app_secret") {
			break
		}
	}
	_, url, _ := strings.Cut(p.err.String(), "listening on ")
	url = strings.TrimSpace(url)
	var got struct{ Apps []map[string]any }
	if err := yaml.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatalf("%v in\n%s", err, &text)
	}
	const tencentKey = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	want := []map[string]any{
		{"provider": "jiguang", "app": "sim", "base_url": url, "channel_key": sampleKey, "master_secret": sampleSecret},
		{"provider": "engagelab", "app": "sim", "base_url": url, "app_key": "c96f42e0d2e662e45d035ab1", "master_secret": "df4d59e84eac2f9d53b36f12"},
		{"provider": "timpush", "app": "sim", "base_url": url, "sdk_app_id": 1400000000, "secret_key": tencentKey, "identifier": "administrator"},
		{"provider": "timchat", "app": "sim", "base_url": url, "sdk_app_id": 1400000000, "secret_key": tencentKey, "identifier": "administrator"},
		{"provider": "rongcloud", "app": "sim", "base_url": url, "app_key": "uwd1c0sxdlx2", "app_secret": "Y1W2MeFwwwRxa0"},
	}
	if diff := cmp.Diff(want, got.Apps); diff != "" {
		t.Errorf("(- wanted, + got):\n%s", diff)
	}
	// The file that it printed is one that it reads.
	file := filepath.Join(t.TempDir(), "recallq.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if apps, err := readApps(file, noEnv); err != nil || len(apps) != 5 {
		t.Errorf("%d apps, %v", len(apps), err)
	}
}

func TestAccountsOfAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("hush", "from-a-file\n")
	env := func(name string) (string, bool) { return "from-the-environment", name == "HUSH" }
	path := write("recallq.yaml", `
redis: {url: redis://127.0.0.1:6379/0}
apps:
  - {provider: jiguang, app: news, channel_key: key1, master_secret: "${HUSH}", window: 24h}
  - {provider: engagelab, app: far, app_key: key2, master_secret_file: hush, data_center: singapore}
  - {provider: timchat, app: chat, sdk_app_id: 1400000001, secret_key: literal, identifier: boss}
`)
	apps, err := readApps(path, env)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range apps {
		got = append(got, fmt.Sprint(a.account()))
	}
	want := []string{"{jiguang key1 from-the-environment }", "{engagelab key2 from-a-file }", "{timchat 1400000001 literal boss}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- wanted, + got):\n%s", diff)
	}
	var b strings.Builder
	if err := printConfig(&b, "http://127.0.0.1:1", apps); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"from-", "literal"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("a secret is in the printed configuration:\n%s", &b)
		}
	}
	if !strings.Contains(b.String(), `secret_key: "${TIMCHAT_CHAT_SECRET}"`) {
		t.Errorf("no variable stands for a secret:\n%s", &b)
	}

	// All faults at once, and no secret among them.
	path = write("bad.yaml", `
apps:
  - {provider: nobody, app: a}
  - {provider: jiguang, app: b, channel_key: k, master_secret: "${UNSET}"}
  - {provider: engagelab, app: c, app_key: k, master_secret: hush1, master_secret_file: hush}
  - {provider: rongcloud, app: d, app_key: k, app_secret_file: not-there}
  - {provider: timpush, app: e, sdk_app_id: abc, secret_key: hush2}
`)
	_, err = readApps(path, noEnv)
	if err == nil {
		t.Fatal("no error")
	}
	for i, want := range []string{`provider "nobody"`, "${UNSET} is not set", "give one of them", "app_secret_file", `account "abc"`} {
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("apps[%d]", i)) {
			t.Errorf("the error lacks %q of apps[%d]:\n%v", want, i, err)
		}
	}
	if strings.Contains(err.Error(), "hush1") || strings.Contains(err.Error(), "hush2") {
		t.Errorf("a secret is in the error:\n%v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		want string // on standard error, or on standard output if the code is 0
	}{
		{[]string{"--help"}, exitOK, "A staging setup in a minute"},
		{[]string{"--nonsense"}, exitUsage, "unknown flag: --nonsense"},
		{[]string{"word"}, exitUsage, `unknown command "word"`},
		{[]string{"--listen", taken.Addr().String()}, exitFailure, taken.Addr().String() + ": the port is taken; choose another with --listen\n"},
		{[]string{"--listen", "192.0.2.1:1"}, exitFailure, "; choose another with --listen\n"},
		{[]string{"--help"}, exitOK, "--limits WHICH"},
		{[]string{"--version"}, exitOK, "simulator "},
		{[]string{"--accounts", "not-there.yaml"}, exitUsage, "not-there.yaml"},
		{[]string{"--accounts", empty}, exitUsage, "has no apps"},
		{[]string{"--messages", "not-there"}, exitUsage, "not-there"},
		{[]string{"--mix", "2% unknown"}, exitUsage, "give --know-all as well"},
		{[]string{"--know-all", "--mix", "2 unknown"}, exitUsage, `--mix "2 unknown": write a share like`},
		{[]string{"--limits", "some"}, exitUsage, `--limits "some": give real or off`},
		{[]string{"--limits", "off", "--limit", "timpush=1/1s"}, exitUsage, "give one of them"},
		{[]string{"--limit", "timpush"}, exitUsage, "write it like"},
		{[]string{"--limit", "timpush=x"}, exitUsage, `"x": write a number of calls`},
		{[]string{"--limit", "timpush=1/week"}, exitUsage, `"week"`},
		{[]string{"--limit", "timpush=0/1s"}, exitUsage, "at least 1"},
		{[]string{"--limit", "nobody=1/1s"}, exitUsage, `"nobody"`},
		{[]string{"--limit", "timpush=1/1s", "--limit", "timpush=1/day"}, exitUsage, "join them"},
		{[]string{"--speed", "0"}, exitUsage, "--speed 0"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), tc.args, noEnv, strings.NewReader(""), &out, &errs)
		text := errs.String()
		if tc.code == exitOK {
			text = out.String()
		}
		if code != tc.code || !strings.Contains(text, tc.want) {
			t.Errorf("%q: exit code %d, want %d and %q in\n%s", tc.args, code, tc.code, tc.want, text)
		}
	}
}

// TestLimitFlags shows that limits can be replaced one by one.
func TestLimitFlags(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "--know-all", "--limit", "jiguang=1/1h", "--limit", "engagelab=off", "--limit", "rongcloud=2/1h,3/day")
	for _, want := range []string{"4004", "1015030"} {
		if got := retract(t, p.url, "v:1t:1603707455p:1n:1", sampleKey, sampleSecret); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := control(t, p, "GET", "/_sim/ledger?violations=1", ""); !strings.Contains(got, `"violation":"1 per 1h0m0s"`) {
		t.Errorf("ledger:\n%s", got)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://[::]:9999": "http://127.0.0.1:9999", "http://0.0.0.0:80": "http://127.0.0.1:80",
		"http://127.0.0.1:1": "http://127.0.0.1:1", "http://[::1]:1": "http://[::1]:1",
	} {
		if got := reachable(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
