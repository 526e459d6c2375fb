package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/recallq/recallq/providers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func post(path string) Call { return Call{Method: http.MethodPost, Path: path} }

// What the conformance suite cannot reach through a provider: a call that never gets as far as a connection was not sent.
func TestNotSentWithoutAConnection(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	defer func() {
		silent.Close()
		for conn := range accepted {
			conn.Close()
		}
	}()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()

	for name, c := range map[string]struct {
		base string
		is   error
	}{
		"name that does not exist":      {"https://recallq.invalid", nil},
		"certificate that is untrusted": {untrusted.URL, nil},
		"no TLS there":                  {strings.Replace(plain.URL, "http:", "https:", 1), nil},
		"TLS handshake hangs":           {"https://" + silent.Addr().String(), context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 5 * time.Second
			if c.is != nil {
				timeout = 150 * time.Millisecond
			}
			_, f := client(t, Options{BaseURL: c.base, Timeout: timeout}).Do(t.Context(), post("/x"))
			if f == nil || f.Kind != providers.Unavailable || f.MaybeDone {
				t.Fatalf("got %+v, want Unavailable, not MaybeDone", f)
			}
			if !strings.HasPrefix(f.Message, "no connection") {
				t.Errorf("message is %q", f.Message)
			}
			if c.is != nil && !errors.Is(f, c.is) {
				t.Errorf("the fault is %v, want %v in it", f, c.is)
			}
		})
	}
}

// A call that waits for one of MaxConns connections has sent nothing.
func TestNotSentWhileWaitingForAConnection(t *testing.T) {
	t.Parallel()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-goOn
	}))
	defer server.Close()
	c := client(t, Options{BaseURL: server.URL, MaxConns: 1, Timeout: time.Minute})
	first := make(chan *providers.Fault, 1)
	go func() {
		_, f := c.Do(t.Context(), post("/x"))
		first <- f
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, f := c.Do(ctx, post("/x")); f == nil || f.MaybeDone {
		t.Errorf("got %+v, want a fault that is not MaybeDone", f)
	}
	close(goOn)
	if f := <-first; f != nil {
		t.Errorf("the first call failed: %v", f)
	}
}

// net/http takes another connection by itself only if nothing was written to the first; if that one cannot be had, nothing
// was sent after all.
func TestWatchStartsAfreshWithEachConnection(t *testing.T) {
	t.Parallel()
	var sent atomic.Bool
	trace := watch(&sent)
	trace.GetConn("")
	trace.GotConn(httptrace.GotConnInfo{})
	if !sent.Load() {
		t.Error("a connection was had, but the request counts as not sent")
	}
	trace.GetConn("")
	if sent.Load() {
		t.Error("another connection was asked for, but the request counts as sent")
	}
}

func TestOnlyHTTP1(t *testing.T) {
	t.Parallel()
	proto := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto <- r.Proto }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c := client(t, Options{BaseURL: server.URL})
	c.transport.TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	if _, f := c.Do(t.Context(), post("/x")); f != nil {
		t.Fatal(f)
	}
	if got := <-proto; got != "HTTP/1.1" {
		t.Errorf("the request came over %s: net/http sends it again by itself when an HTTP/2 server goes away", got)
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	call := func(c *Client) {
		t.Helper()
		for range 5 {
			if _, f := c.Do(t.Context(), post("/x")); f != nil {
				t.Fatal(f)
			}
		}
	}
	call(client(t, Options{BaseURL: server.URL}))
	if n := opened.Swap(0); n != 1 {
		t.Errorf("5 calls in a row opened %d connections, want 1", n)
	}
	call(client(t, Options{BaseURL: server.URL, DisableKeepAlives: true}))
	if n := opened.Load(); n != 5 {
		t.Errorf("5 calls in a row without keep-alives opened %d connections, want 5", n)
	}
}

func TestOneMiBIsReadAndNoMore(t *testing.T) {
	t.Parallel()
	for size, ok := range map[int]bool{MaxBody: true, MaxBody + 1: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		}))
		answer, f := client(t, Options{BaseURL: server.URL}).Do(t.Context(), post("/x"))
		if ok && (f != nil || len(answer.Body) != size) {
			t.Errorf("%d bytes: %v", size, f)
		}
		if !ok && (f == nil || f.Kind != providers.Unavailable || !f.MaybeDone || f.Code != "HTTP 200") {
			t.Errorf("%d bytes: %+v", size, f)
		}
		server.Close()
	}
}

// Some statuses say all there is to say, whatever becomes of the body behind them.
func TestABodyThatIsCutOff(t *testing.T) {
	t.Parallel()
	for status, whole := range map[int]bool{200: false, 400: false, 401: true, 403: true, 429: true, 503: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"code":4005,`))
		}))
		a, f := client(t, Options{BaseURL: s.URL}).Do(t.Context(), post("/x"))
		s.Close()
		if whole && (f != nil || a.Status != status || a.RetryAfter != 20*time.Second || len(a.Body) > 0) {
			t.Errorf("%d: %+v, %v; want an answer without a body", status, a, f)
		}
		if !whole && (f == nil || f.Kind != providers.Unavailable) {
			t.Errorf("%d: %+v, %v; want a fault", status, a, f)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer server.Close()
	c := client(t, Options{BaseURL: server.URL + "/prefix/"})
	_, f := c.Do(t.Context(), Call{
		Method: http.MethodDelete, Path: "/v1/a%2Fb:c", Query: url.Values{"q": {"a b*"}},
		Header: http.Header{"app-key": {"k"}}, Body: []byte("x=1"), ContentType: "application/x-www-form-urlencoded",
	})
	if f != nil {
		t.Fatal(f)
	}
	r := <-got
	if r.RequestURI != "/prefix/v1/a%2Fb:c?q=a+b%2A" || r.Method != "DELETE" || r.ContentLength != 3 {
		t.Errorf("got %s %s with %d bytes", r.Method, r.RequestURI, r.ContentLength)
	}
	for name, want := range map[string]string{
		"App-Key": "k", "Content-Type": "application/x-www-form-urlencoded", "User-Agent": "recallq", "Accept-Encoding": "",
	} {
		if have := r.Header.Get(name); have != want {
			t.Errorf("%s is %q, want %q", name, have, want)
		}
	}
}

// A call that cannot be sent once and once only, or whose path is not what it seems, is refused before anything is sent.
func TestMalformedCalls(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	defer server.Close()
	c := client(t, Options{BaseURL: server.URL, Secrets: []string{"hunter2hunter2"}})
	for _, call := range []Call{
		{Method: http.MethodGet, Path: "/x"}, {Method: "", Path: "/x"}, {Method: "hunter2hunter2", Path: "/x"},
		post(""), post("x"), post("@evil.example/"), post("/a b"), post("/a?b=c"), post("/a#b"), post("/%zz"), post("/é"),
	} {
		_, f := c.Do(t.Context(), call)
		if f == nil || f.Kind != providers.Invalid || f.MaybeDone || strings.Contains(f.Error(), "hunter2") {
			t.Errorf("%s %s: got %v, want Invalid", call.Method, call.Path, f)
		}
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://a", "http://127.0.0.1:8080", "https://[::1]:443/p/q/", "https://a.example/%2F"} {
		if _, err := New(Options{BaseURL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a", "//a", "a:1", "ftp://a", "https://", "https:///p", "https://:443", "https://u@a", "https://u:hunter2@a", "https://a?",
		"https://a?k=hunter2", "https://a#", "https://a#f", "https://a b", "https://[::1", "\x00", "https://a/%zz", "https:a",
	} {
		_, err := New(Options{BaseURL: bad})
		var field *providers.FieldError
		if !errors.As(err, &field) || field.Field != "base_url" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{" 7 ", "", 7 * time.Second},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"1e3", "", 0},
		{"soon", "", 0},
		{"31536001", "", maxRetryAfter},
		{"9223372036854775807", "", maxRetryAfter},
		{"9223372036854775808", "", maxRetryAfter},
		{at(time.Minute), "", time.Minute},
		{at(-time.Minute), "", 0},
		{at(0), "", 0},
		{now.Add(time.Minute).Format(time.RFC850), "", time.Minute},
		{now.Add(time.Minute).Format(time.ANSIC), "", time.Minute},
		// Our clock is an hour ahead of the vendor's, then an hour behind.
		{at(-59 * time.Minute), at(-time.Hour), time.Minute},
		{at(61 * time.Minute), at(time.Hour), time.Minute},
		{at(time.Minute), "nonsense", time.Minute},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", maxRetryAfter},
	} {
		h := http.Header{"Retry-After": {c.value}, "Date": {c.date}}
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("%q (Date %q): %s, want %s", c.value, c.date, got, c.want)
		}
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`0`: "0", `1015055`: "1015055", `"1015055"`: "1015055", `" 21003 "`: "21003", `-1`: "-1", `"007"`: "7",
		``: "", `null`: "", `true`: "", `1.5`: "", `1e3`: "", `"x"`: "", `""`: "", `[1]`: "", `{}`: "", `9999999999999999999`: "",
		`"<script>"`: "", `"1 2"`: "",
	} {
		if got := Code([]byte(raw)); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{}`: true, " {\"a\":1}\n": true, "\xef\xbb\xbf{}": true,
		``: false, `null`: false, `[]`: false, `"x"`: false, `{`: false, `{}{}`: false, `<html>`: false,
	} {
		if _, got := (&Answer{Body: []byte(body)}).Object(); got != want {
			t.Errorf("%q: %t, want %t", body, got, want)
		}
	}
}

func TestSegment(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"v:1t:1603707455p:27133n:2": "v:1t:1603707455p:27133n:2", "a/b": "a%2Fb", "a?b": "a%3Fb", "a%2fb": "a%252fb", "a#b": "a%23b",
		"...": "...", "a b": "a%20b", "../x": "..%2Fx",
	} {
		if got, ok := Segment(id); !ok || got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
	for _, id := range []string{"", ".", ".."} {
		if got, ok := Segment(id); ok {
			t.Errorf("%q: %q, want none", id, got)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	const secret = "5e987ac6d2e04d95a9d8f0d1"
	for _, c := range []struct{ text, want string }{
		{"bad key " + secret, "bad key [redacted]"},
		{secret + secret, "[redacted][redacted]"},
		{"key=" + secret[:20] + "…", "key=[redacted]…"},
		{"key=…" + secret[8:], "key=…[redacted]"},
		{"short part " + secret[:8], "short part " + secret[:8]},
		{"two/slash+secret", "[redacted]"},
		{"two%2Fslash%2Bsecret", "[redacted]"},
		{"pin", "[redacted]"},
		{"nothing", "nothing"},
		{"", ""},
	} {
		if got := redact(c.text, forms([]string{secret, "", "two/slash+secret", "pin"})); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// A proxy's URL holds its password, and net/http puts it into its error.
func TestProxyErrorHidesTheProxy(t *testing.T) {
	t.Parallel()
	c := client(t, Options{BaseURL: "https://api.example.com"})
	c.transport.Proxy = func(*http.Request) (*url.URL, error) {
		return nil, &url.Error{Op: "parse", URL: "http://u:hunter2@proxy", Err: errors.New("bad")}
	}
	_, f := c.Do(t.Context(), post("/x"))
	if f == nil || f.MaybeDone || strings.Contains(fmt.Sprintf("%v %+v %#v", f, f, f.Err), "hunter2") {
		t.Errorf("got %+v", f)
	}
}

func TestByStatus(t *testing.T) {
	t.Parallel()
	for status := 100; status < 600; status++ {
		for _, enveloped := range []bool{true, false} {
			want := providers.Invalid
			switch {
			case status == 429:
				want = providers.Throttled
			case status == 401 || status == 403:
				want = providers.Credentials
			case status == 408 || status >= 500:
				want = providers.Unavailable
			case status >= 300 && status < 400, !enveloped && (status == 404 || status == 405):
				want = providers.Misconfigured
			case status < 300 && !enveloped:
				want = providers.Unavailable
			}
			if got := ByStatus(status, enveloped); got != want {
				t.Errorf("%d, enveloped %t: %s, want %s", status, enveloped, got, want)
			}
		}
	}
}

// A gateway's {"code":404} is no envelope of the vendor's: a wrong base URL must not reject anything.
func TestStatusAsCodeIsNoEnvelope(t *testing.T) {
	t.Parallel()
	a := &Answer{Status: 404}
	if f := a.Fault(Envelope{Code: "404", Message: "no route"}, nil); f.Kind != providers.Misconfigured || f.Code != "HTTP 404" || f.Message != "no route" {
		t.Errorf("got %+v", f)
	}
	known := Table{"404": {Kind: providers.Invalid}}
	if f := a.Fault(Envelope{Code: "404"}, known.Find("404")); f.Kind != providers.Invalid || f.Code != "404" {
		t.Errorf("a documented code 404: got %+v", f)
	}
}

// Whatever an answer holds, the fault is one printable line without the secret.
func FuzzAnswer(f *testing.F) {
	const secret = "5e987ac6d2e04d95a9d8f0d1"
	f.Add(200, `{"code":1,"message":"`+secret+`"}`, "text/html", "5")
	f.Add(502, "<html>\x00\xff", ";;", "Fri, 31 Dec 9999 23:59:59 GMT")
	f.Add(404, `{"code":"404","message":["`+secret+`"]}`, secret, "-1")
	f.Fuzz(func(t *testing.T, status int, body, contentType, wait string) {
		h := http.Header{"Content-Type": {contentType}, "Retry-After": {wait}}
		a := &Answer{Status: status, Header: h, Body: []byte(body), secrets: forms([]string{secret}), RetryAfter: retryAfter(h, time.Now())}
		members, _ := a.Object()
		fault := a.Fault(Envelope{Code: Code(members["code"]), Message: String(members["message"]), RequestID: String(members["id"])}, nil)
		for _, text := range []string{fault.Error(), fault.Message, fault.RequestID, a.Text(body)} {
			if strings.Contains(text, secret) || strings.ContainsAny(text, "\n\r\x00\x1b") {
				t.Errorf("%q", text)
			}
		}
		if fault.Kind == "" || fault.Message == "" || len(fault.Message) > providers.MaxMessage || fault.RetryAfter < 0 {
			t.Errorf("%+v", fault)
		}
	})
}
