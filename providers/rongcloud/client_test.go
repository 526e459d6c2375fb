package rongcloud

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
)

// The vector is computed: the signatures in RongCloud's own examples belong to no secret that was ever shown with them.
func TestSignatureVector(t *testing.T) {
	t.Parallel()
	const want = "dd11a264276f438b045b3b236a2741ddc89d48df"
	if got := signature("Y1W2MeFwwwRxa0", "14314", "1408710653491"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestNoncesAreShortAndFresh(t *testing.T) {
	t.Parallel()
	c, err := New(config(), providers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 1000 {
		nonce := c.header(request(), time.UnixMilli(1)).Get("Nonce")
		if len(nonce) > 18 || strings.Trim(nonce, "0123456789") != "" || seen[nonce] {
			t.Fatalf("nonce %q: want at most 18 digits, never twice", nonce)
		}
		seen[nonce] = true
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                      "",
		"short":                 "short",
		strings.Repeat("x", 36): strings.Repeat("x", 36),
		"a" + "b" + "0123456789abcdef0123456789abcdef0123": "0123456789abcdef0123456789abcdef0123",
		"rongcloud_0123456789abcdef0123456789abcdef":       "oud_0123456789abcdef0123456789abcdef",
	} {
		if got := requestID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The vendor's example id reads as 1993: such a time is a coincidence, and 0 would be a wrong one.
func TestSentTime(t *testing.T) {
	t.Parallel()
	c, err := New(config(), providers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, v := range []struct {
		id     string
		sentAt time.Time
		want   string
	}{
		{"BC52-ESJ0-022O-001H", time.Time{}, "1564049525120"},
		{"BC52-ESJ0-022O-001H", time.UnixMilli(1564049599999), "1564049599999"}, // what the caller says is sent
		{"5FGT-7VA9-G4DD-4V5P", time.Time{}, ""},
		{"VVVV-VVVV-VVVV-VVVV", time.Time{}, ""}, // the year 2109
		{"not an id", time.Time{}, ""},
	} {
		form := c.form(providers.Request{MessageID: v.id, SentAt: v.sentAt}, now)
		if got := form.Get("sentTime"); got != v.want || form.Has("sentTime") != (v.want != "") {
			t.Errorf("%s, %s: %q, want %q", v.id, v.sentAt, got, v.want)
		}
	}
}

// answered is what one call makes of an answer.
func answered(t *testing.T, status int, body string) (providers.Receipt, *providers.Fault) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	c, err := New(config(), providers.Options{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	receipt, err := c.Recall(t.Context(), request())
	return receipt, providers.AsFault(err)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status    int
		body      string
		kind      providers.Kind // empty: success
		code      string
		maybeDone bool
	}{
		{200, `{"code":200}`, "", "", false},
		{201, `{"code":200}`, providers.Unavailable, "HTTP 201", true},
		{500, `{"code":200}`, providers.Unavailable, "HTTP 500", true},
		{302, `{"code":200}`, providers.Misconfigured, "HTTP 302", false},
		{500, `{"code":1000,"errorMessage":"x"}`, providers.Unavailable, "1000", true},
		{504, `{"code":1000,"errorMessage":"x"}`, providers.Unavailable, "1000", true},
		{400, `{"code":1000,"errorMessage":"x"}`, providers.Invalid, "1000", false},
		{200, `{"code":1000,"errorMessage":"x"}`, providers.Invalid, "1000", false},
		{200, `{"code":1015,"errorMessage":"x"}`, providers.Invalid, "1015", false},
		{200, `{"code":1008,"errorMessage":"x"}`, providers.Throttled, "1008", false},
		{429, `{"code":1008,"errorMessage":"x"}`, providers.Throttled, "1008", false},
		{401, `{"code":3999,"errorMessage":"x"}`, providers.Credentials, "3999", false},
		{430, `{"code":3999,"errorMessage":"x"}`, providers.Credentials, "3999", false},
		{430, `<html>`, providers.Credentials, "HTTP 430", false},
		{429, `<html>`, providers.Throttled, "HTTP 429", false},
		{404, `{"code":404,"errorMessage":"x"}`, providers.Misconfigured, "404", false},
		{404, `<html>`, providers.Misconfigured, "HTTP 404", false},
		{405, `<html>`, providers.Misconfigured, "HTTP 405", false},
		{404, `{"code":3999,"errorMessage":"x"}`, providers.Invalid, "3999", false},
		{500, `{"code":3999,"errorMessage":"x"}`, providers.Unavailable, "3999", true},
		{200, `{"code":3999,"errorMessage":"x"}`, providers.Invalid, "3999", false},
		{200, `{}`, providers.Unavailable, "HTTP 200", true},
		{200, `<html>`, providers.Unavailable, "HTTP 200", true},
	} {
		_, f := answered(t, c.status, c.body)
		if f == nil {
			f = &providers.Fault{}
		}
		if f.Kind != c.kind || f.Code != c.code || f.MaybeDone != c.maybeDone {
			t.Errorf("%d %s: %s (%s) maybe done %t, want %s (%s) %t", c.status, c.body, f.Kind, f.Code, f.MaybeDone, c.kind, c.code, c.maybeDone)
		}
	}
}

func TestTheTablesWordsWhereTheVendorHasNone(t *testing.T) {
	t.Parallel()
	if _, f := answered(t, 429, `{"code":1008}`); f.Message != "too frequent; or broadcasting is not enabled" {
		t.Errorf("message %q", f.Message)
	}
	for _, c := range codes() {
		if c.meaning == "" || c.source == "" {
			t.Errorf("%d has no meaning or no source", c.number)
		}
	}
}

// RongCloud asks not to keep connections alive.
func TestEveryCallHasAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	from := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		_, _ = io.WriteString(w, `{"code":200}`)
	}))
	defer server.Close()
	c, err := New(config(), providers.Options{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if _, err := c.Recall(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) != 3 {
		t.Errorf("3 calls over %d connections", len(from))
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config Config
		want   []string
	}{
		"smallest":    {config(), nil},
		"nothing":     {Config{}, []string{"app_key", "app_secret"}},
		"all wrong":   {Config{"two words", "a secret\n", "mars"}, []string{"app_key", "app_secret", "data_center"}},
		"data centre": {Config{"k", "s", "singapore_b"}, nil},
	} {
		if d := cmp.Diff(c.want, fields(t, c.config.Check())); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if _, err := New(c.config, providers.Options{}); (err != nil) != (c.want != nil) {
			t.Errorf("%s: New: %v", name, err)
		}
	}
	if err := (Config{"two words", "a secret\n", "mars"}).Check(); strings.Contains(err.Error(), "a secret") {
		t.Errorf("the secret is in %q", err)
	}
}

func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not joined", err)
	}
	var names []string
	for _, e := range joined.Unwrap() {
		var fe *providers.FieldError
		if !errors.As(e, &fe) {
			t.Fatalf("%T is no FieldError", e)
		}
		names = append(names, fe.Field)
	}
	return names
}

func TestConfigFacts(t *testing.T) {
	t.Parallel()
	for dc, want := range map[string]string{
		"":              "https://api.rong-api.com",
		"beijing":       "https://api.rong-api.com",
		"singapore":     "https://api.sg-light-api.com",
		"singapore_b":   "https://api.sg-b-light-api.com",
		"north_america": "https://api.us-light-api.com",
		"saudi_arabia":  "https://api.sau-light-api.com",
		"mars":          "",
	} {
		if got := (Config{DataCenter: dc}).BaseURL(); got != want {
			t.Errorf("%q: %q, want %q", dc, got, want)
		}
	}
	if got := config().Account(); got != "uwd1c0sxdlx2" {
		t.Errorf("account %q", got)
	}
	if d := cmp.Diff([]string{"Y1W2MeFwwwRxa0"}, config().Secrets()); d != "" {
		t.Error(d)
	}
}
