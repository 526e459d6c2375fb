package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/recallq/recallq/providers"
)

// seen is a request as it arrived.
type seen struct {
	*http.Request
	body []byte
}

// secrets are the credentials that a request carries.
func (s seen) secrets() []string {
	var found []string
	if fields := strings.Fields(s.Header.Get("Authorization")); len(fields) > 0 {
		found = append(found, fields[len(fields)-1])
	}
	for _, pair := range strings.Split(s.URL.RawQuery, "&") {
		if raw, ok := strings.CutPrefix(pair, "usersig="); ok {
			found = append(found, raw, s.URL.Query().Get("usersig"))
		}
	}
	for _, name := range []string{"Signature", "RC-Signature"} {
		if value := s.Header.Get(name); value != "" {
			found = append(found, value)
		}
	}
	return found
}

// vendor is an HTTP server in the vendor's place that keeps what it was sent.
type vendor struct {
	URL  string
	mu   sync.Mutex
	seen []seen
}

func (v *vendor) requests() []seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]seen(nil), v.seen...)
}

// serve starts a vendor that reads every request whole before handler answers it.
func serve(t *testing.T, handler func(w http.ResponseWriter, s seen)) *vendor {
	t.Helper()
	v := &vendor{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s := seen{Request: r, body: body}
		v.mu.Lock()
		v.seen = append(v.seen, s)
		v.mu.Unlock()
		handler(w, s)
	}))
	t.Cleanup(server.Close)
	v.URL = server.URL
	return v
}

// reply answers with a body of the vendor's content type.
func reply(status int, body string) func(http.ResponseWriter, seen) {
	return func(w http.ResponseWriter, _ seen) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// raw starts a server that hands each connection to handle, numbered from 1, and closes it afterwards.
func raw(t *testing.T, handle func(conn net.Conn, n int)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				handle(conn, n)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}

// reset makes closing the connection a RST instead of an orderly end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// provider makes the harness's provider, aimed at baseURL.
func (h Harness) provider(t *testing.T, baseURL string, opt providers.Options) providers.Provider {
	t.Helper()
	opt.BaseURL = baseURL
	if opt.Timeout == 0 {
		opt.Timeout = time.Minute // not reached by a test that passes
	}
	p, err := h.New(opt)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// recall makes one recall against a vendor that must have been sent exactly one request, and returns the fault, which is
// nil if the recall was accepted.
func (h Harness) recall(t *testing.T, v *vendor, opt providers.Options) (providers.Receipt, *providers.Fault) {
	t.Helper()
	before := len(v.requests())
	receipt, err := h.provider(t, v.URL, opt).Recall(t.Context(), h.Request)
	all := v.requests()
	if got := len(all) - before; got != 1 {
		t.Errorf("the vendor was sent %d requests, want exactly 1", got)
	}
	secrets := h.Secrets
	for _, s := range all {
		secrets = append(secrets[:len(secrets):len(secrets)], s.secrets()...)
	}
	clean(t, fmt.Sprintf("%+v", receipt), secrets)
	return receipt, fault(t, err, secrets)
}

// fault checks what holds for every error of every provider.
func fault(t *testing.T, err error, secrets []string) *providers.Fault {
	t.Helper()
	if err == nil {
		return nil
	}
	f, ok := err.(*providers.Fault) //nolint:errorlint // the contract is this very type, not something around it
	if !ok || f == nil {
		t.Fatalf("the error is a %T (%v), want a *providers.Fault", err, err)
	}
	known := false
	for _, k := range providers.Kinds() {
		known = known || k == f.Kind
	}
	if !known {
		t.Errorf("kind %q is none of the contract's", f.Kind)
	}
	if f.Message == "" {
		t.Errorf("the fault has no message: %v", f)
	}
	if len(f.Message) > providers.MaxMessage {
		t.Errorf("the message has %d bytes, at most %d are allowed", len(f.Message), providers.MaxMessage)
	}
	for _, text := range []string{f.Message, f.Code, f.RequestID} {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not one printable line", text)
		}
	}
	if f.RetryAfter < 0 {
		t.Errorf("RetryAfter is %s", f.RetryAfter)
	}
	if f.Ambiguous && f.Kind != providers.NotFound {
		t.Errorf("an ambiguous fault has kind %s, want %s", f.Kind, providers.NotFound)
	}
	clean(t, f.Code+" "+f.Message+" "+f.RequestID, secrets)
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			clean(t, fmt.Sprintf(verb, e), secrets)
		}
	}
	return f
}

// clean fails if text holds a secret, or a URL with a query.
func clean(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("a secret (%.4s…) is in %q", s, text)
		}
	}
	if strings.Contains(text, "usersig=eJ") {
		t.Errorf("a query is in %q", text)
	}
}

// want compares a fault with what it must be.
func want(t *testing.T, f *providers.Fault, kind providers.Kind, code string, maybeDone bool) {
	t.Helper()
	if f == nil {
		t.Fatalf("the recall was accepted, want a fault of kind %s", kind)
	}
	if f.Kind != kind {
		t.Errorf("kind is %s, want %s (%v)", f.Kind, kind, f)
	}
	if f.Code != code {
		t.Errorf("code is %q, want %q (%v)", f.Code, code, f)
	}
	if f.MaybeDone != maybeDone {
		t.Errorf("MaybeDone is %t, want %t (%v)", f.MaybeDone, maybeDone, f)
	}
}

// dump is a request as text, for vendors that show what they were sent.
func dump(s seen, secrets []string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s ", s.Method, s.RequestURI)
	_ = s.Header.WriteSubset(&b, nil)
	b.Write(s.body)
	return b.String() + strings.Join(append(append([]string(nil), secrets...), s.secrets()...), " ")
}
