package tencent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPath = "/v4/some/api"

// gateway returns a Gateway that calls a server which answers with answer.
func gateway(t *testing.T, now func() time.Time, own []Code, answer http.HandlerFunc) *Gateway {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	a := Account{SDKAppID: 1400000000, SecretKey: sampleKey, Identifier: "admin-1"}
	g, err := NewGateway(a, own, providers.Options{BaseURL: server.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// log keeps what the server's goroutines saw.
type log[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *log[T]) add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, v)
}

func (l *log[T]) take() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func sigOf(r *http.Request) string { return r.URL.Query().Get("usersig") }

// faultOf calls once and returns the fault, which is nil for a success.
func faultOf(t *testing.T, g *Gateway) *providers.Fault {
	t.Helper()
	_, err := g.Call(context.Background(), testPath, map[string]string{"Key": "value"})
	if err == nil {
		return nil
	}
	var f *providers.Fault
	if !errors.As(err, &f) {
		t.Fatalf("%T is no fault: %v", err, err)
	}
	return f
}

func TestCallOnTheWire(t *testing.T) {
	t.Parallel()
	type wire struct {
		Method, Path, ContentType, Body string
		Query                           url.Values
	}
	var wires log[wire]
	g := gateway(t, func() time.Time { return time.Unix(1700000000, 0) }, nil, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wires.add(wire{r.Method, r.URL.Path, r.Header.Get("Content-Type"), string(body), r.URL.Query()})
		_, _ = io.WriteString(w, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"RequestId":"Id-1"}`)
	})
	for range 2 {
		receipt, err := g.Call(context.Background(), testPath, map[string]string{"Key": "värde <1>"})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(providers.Receipt{Code: "0", RequestID: "Id-1"}, receipt); d != "" {
			t.Error(d)
		}
	}
	got := wires.take()
	if len(got) != 2 {
		t.Fatalf("%d requests for 2 calls", len(got))
	}
	if got[0].Query.Get("random") == got[1].Query.Get("random") {
		t.Error("two calls have the same random number")
	}
	for _, w := range got {
		var random uint32
		if _, err := fmt.Sscan(w.Query.Get("random"), &random); err != nil {
			t.Errorf("random=%s is no 32-bit unsigned integer", w.Query.Get("random"))
		}
		sig := unpack(t, w.Query.Get("usersig"))
		if sig.Identifier != "admin-1" || sig.SDKAppID != 1400000000 || sig.Time != 1700000000 {
			t.Errorf("the UserSig is for %+v", sig)
		}
		w.Query.Del("random")
		w.Query.Del("usersig")
		want := wire{"POST", testPath, "application/json", `{"Key":"värde \u003c1\u003e"}`,
			url.Values{"sdkappid": {"1400000000"}, "identifier": {"admin-1"}, "contenttype": {"json"}}}
		if d := cmp.Diff(want, w); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

func TestSuccessNeedsBothWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status    int
		body      string
		kind      providers.Kind // empty: success
		code      string
		maybeDone bool
	}{
		{200, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`, "", "", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":0}`, providers.Unavailable, "HTTP 200", true},
		{200, `{"ActionStatus":"OK","ErrorInfo":"x","ErrorCode":60014}`, providers.Unavailable, "60014", true},
		{200, `{"ActionStatus":"OK"}`, providers.Unavailable, "HTTP 200", true},
		{200, `{"ErrorCode":0}`, providers.Unavailable, "HTTP 200", true},
		{200, `{"ActionStatus":"FAIL","ErrorCode":null}`, providers.Unavailable, "HTTP 200", true},
		{200, `{"ErrorCode":60006}`, providers.Credentials, "60006", false},
		{200, `[]`, providers.Unavailable, "HTTP 200", true},
		{200, ``, providers.Unavailable, "HTTP 200", true},
		{204, ``, providers.Unavailable, "HTTP 204", true},
		{302, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`, providers.Misconfigured, "HTTP 302", false},
		{500, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`, providers.Unavailable, "HTTP 500", true},
		{502, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":60006}`, providers.Credentials, "60006", false},
		{502, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":77777}`, providers.Unavailable, "77777", true},
		{429, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":77777}`, providers.Throttled, "77777", false},
		{400, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":77777}`, providers.Invalid, "77777", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":77777}`, providers.Invalid, "77777", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":70031}`, providers.Credentials, "70031", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":70053}`, providers.Invalid, "70053", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":61234}`, providers.Invalid, "61234", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":66666}`, providers.Invalid, "66666", false},
		{200, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":123456}`, providers.Invalid, "123456", false},
		{404, `<html>nginx</html>`, providers.Misconfigured, "HTTP 404", false},
		{403, `<html>nginx</html>`, providers.Credentials, "HTTP 403", false},
	} {
		f := faultOf(t, gateway(t, nil, nil, says(c.status, c.body)))
		if f == nil {
			f = &providers.Fault{}
		}
		if f.Kind != c.kind || f.Code != c.code || f.MaybeDone != c.maybeDone {
			t.Errorf("%d %s: %s (%s) maybe done %t, want %s (%s) %t", c.status, c.body, f.Kind, f.Code, f.MaybeDone, c.kind, c.code, c.maybeDone)
		}
	}
}

func TestEveryCommonCode(t *testing.T) {
	t.Parallel()
	var code atomic.Int64
	g := gateway(t, nil, nil, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"ActionStatus":"FAIL","ErrorInfo":"","ErrorCode":%d}`, code.Load())
	})
	seen := map[int64]bool{}
	for _, c := range CommonCodes() {
		if c.Meaning == "" || c.Source == "" {
			t.Errorf("%d has no meaning or no source", c.From)
		}
		if c.To != 0 {
			continue
		}
		if seen[c.From] {
			t.Errorf("%d is there twice", c.From)
		}
		seen[c.From] = true
		code.Store(c.From)
		f := faultOf(t, g)
		if f.Kind != c.Kind || f.MaybeDone != (c.Kind == providers.Unavailable) || f.WholeAccount != (c.From == 60011) {
			t.Errorf("%d: %+v, want %s", c.From, f, c.Kind)
		}
		if f.Message != c.Meaning {
			t.Errorf("%d: %q, want the table's words where the vendor has none", c.From, f.Message)
		}
	}
}

// The kinds that the contract names for the codes which both APIs share.
func TestCommonCodesByKind(t *testing.T) {
	t.Parallel()
	want := map[providers.Kind][]int64{
		providers.Unavailable:   {60008, 60013, 60014, 70169, 70202, 70500},
		providers.Throttled:     {60007, 60011, 60018, 60019},
		providers.Misconfigured: {60002, 60009, 60012},
		providers.Credentials: {60004, 60005, 60006, 60010, 60016, 60017, 60020, 60021, 70001, 70002, 70003, 70005, 70009, 70013,
			70014, 70016, 70020, 70050, 70051, 70052, 70101, 70346, 70403},
		providers.Invalid: {60003, 60015, 70107, 70114, 70206, 70398, 70402, 72001, 80001, 80002},
	}
	got := map[providers.Kind][]int64{}
	for _, c := range CommonCodes() {
		if c.To == 0 {
			got[c.Kind] = append(got[c.Kind], c.From)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAnAPIsOwnCodeGoesFirst(t *testing.T) {
	t.Parallel()
	own := []Code{{From: 60003, Kind: providers.NotFound, Meaning: "ours"}, {From: 90000, To: 90991, Kind: providers.Credentials}}
	for code, want := range map[int]providers.Kind{60003: providers.NotFound, 90991: providers.Credentials, 90992: providers.Invalid, 60007: providers.Throttled} {
		f := faultOf(t, gateway(t, nil, own, says(200, fmt.Sprintf(`{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":%d}`, code))))
		if f.Kind != want {
			t.Errorf("%d: %s, want %s", code, f.Kind, want)
		}
	}
}

func TestExpiredUserSigIsRenewedOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"70001", "70052"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			c := &clock{now: time.Unix(1795166673, 0)}
			var used log[string]
			g := gateway(t, c.Now, nil, func(w http.ResponseWriter, r *http.Request) {
				used.add(sigOf(r))
				fmt.Fprintf(w, `{"ActionStatus":"FAIL","ErrorInfo":"usersig %s is expired","ErrorCode":%s}`, sigOf(r), code)
			})
			// Also within one second, in which the same UserSig would be made again.
			old, again := faultOf(t, g), faultOf(t, g)
			if old.Kind != providers.Credentials || !old.Renewed || !again.Renewed {
				t.Errorf("first: %+v; right after: %+v", old, again)
			}
			if sigs := used.take(); len(sigs) != 2 || sigs[0] == sigs[1] {
				t.Errorf("%d calls; the second must be signed afresh", len(sigs))
			}
			if want := "usersig [redacted] is expired"; old.Message != want {
				t.Errorf("message %q, want %q", old.Message, want)
			}
		})
	}
}

func TestOtherRefusalsKeepTheUserSig(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1795166673, 0), step: time.Hour / 4}
	var used log[string]
	g := gateway(t, c.Now, nil, func(w http.ResponseWriter, r *http.Request) {
		used.add(sigOf(r))
		_, _ = io.WriteString(w, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":70013}`)
	})
	if f := faultOf(t, g); f.Renewed {
		t.Error("70013 is not about the UserSig's age")
	}
	faultOf(t, g)
	if sigs := used.take(); len(sigs) != 2 || sigs[0] != sigs[1] {
		t.Error("70013 renewed the UserSig")
	}
}

// The vendor echoes the whole URL, the network fails, the answer is garbage: no error holds the UserSig or the key.
func TestNoSecretInAnyError(t *testing.T) {
	t.Parallel()
	var sigs log[string]
	echo := func(status int, body func(r *http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			sigs.add(sigOf(r))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body(r))
		}
	}
	enveloped := func(text func(r *http.Request) string) func(r *http.Request) string {
		return func(r *http.Request) string {
			return fmt.Sprintf(`{"ActionStatus":"FAIL","ErrorCode":70003,"RequestId":%q,"ErrorInfo":%[1]q}`, text(r))
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"raw":     echo(200, enveloped(func(r *http.Request) string { return "bad sig " + sigOf(r) })),
		"escaped": echo(200, enveloped(func(r *http.Request) string { return "bad url " + r.URL.String() })),
		"cut":     echo(200, enveloped(func(r *http.Request) string { return "bad sig " + sigOf(r)[:60] })),
		"key":     echo(200, enveloped(func(*http.Request) string { return "key " + sampleKey })),
		"page":    echo(404, func(r *http.Request) string { return "<p>" + r.URL.String() + "</p>" }),
		"reset": func(_ http.ResponseWriter, r *http.Request) {
			sigs.add(sigOf(r))
			panic(http.ErrAbortHandler)
		},
	} {
		f := faultOf(t, gateway(t, nil, nil, h))
		all := fmt.Sprintf("%v %+v %q %v", f, *f, f.RequestID, f.Err)
		used := sigs.take()
		if len(used) != 1 {
			t.Fatalf("%s: %d requests", name, len(used))
		}
		for _, secret := range []string{used[0], used[0][:20], url.QueryEscape(used[0]), sampleKey} {
			if strings.Contains(all, secret) {
				t.Errorf("%s: %q is in %q", name, secret, all)
			}
		}
	}
}

// 50 goroutines call while the UserSig falls due. The clock moves on with each reading, so each signature made is another.
func TestManyCallsThroughARenewal(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1795166673, 0), step: time.Second}
	var (
		mu   sync.Mutex
		seen = map[string]int{}
	)
	g := gateway(t, c.Now, nil, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[sigOf(r)]++
		mu.Unlock()
		_, _ = io.WriteString(w, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`)
	})
	old := g.signer.Sig()
	c.move(sigRenewal)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 4 {
				if _, err := g.Call(context.Background(), testPath, struct{}{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[old.text] != 0 {
		t.Errorf("the vendor saw %d UserSigs (the old one %d times), want one new one", len(seen), seen[old.text])
	}
}

// 50 calls whose old UserSig is refused at once get one new one between them, and each may try again.
func TestManyRefusalsOfOneUserSig(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1795166673, 0)}
	const calls = 50
	var (
		mu   sync.Mutex
		seen = map[string]int{}
		in   sync.WaitGroup
	)
	in.Add(calls)
	g := gateway(t, c.Now, nil, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[sigOf(r)]++
		first := len(seen) == 1
		mu.Unlock()
		if !first {
			_, _ = io.WriteString(w, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`)
			return
		}
		in.Done()
		in.Wait() // all calls are under way with the old one
		_, _ = io.WriteString(w, `{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":70001}`)
	})
	g.signer.Sig()
	c.move(time.Hour)
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			_, err := g.Call(context.Background(), testPath, struct{}{})
			if f := providers.AsFault(err); f == nil || !f.Renewed {
				t.Errorf("not renewed: %v", err)
				return
			}
			if _, err := g.Call(context.Background(), testPath, struct{}{}); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 {
		t.Errorf("the vendor saw %d UserSigs, want the old and one new one", len(seen))
	}
}
