package providertest

import (
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
)

const html = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"

// testSuccess: the vendor's acceptance is a receipt, and only under its own HTTP status.
func testSuccess(t *testing.T, h Harness) {
	v := serve(t, reply(http.StatusOK, h.Success("req-7f3a")))
	receipt, f := h.recall(t, v, providers.Options{})
	if f != nil {
		t.Fatalf("the recall was not accepted: %v", f)
	}
	if receipt.Code != h.Code {
		t.Errorf("the receipt's code is %q, want %q", receipt.Code, h.Code)
	}
	if got := receipt.RequestID; h.cannot(NoReceiptID) != (got == "") || got != "" && got != "req-7f3a" {
		t.Errorf("the receipt's request id is %q", got)
	}
	for status, kind := range map[int]providers.Kind{
		http.StatusServiceUnavailable:  providers.Unavailable,
		http.StatusInternalServerError: providers.Unavailable,
		http.StatusTooManyRequests:     providers.Throttled,
		http.StatusUnauthorized:        providers.Credentials,
	} {
		t.Run(fmt.Sprintf("not under %d", status), func(t *testing.T) {
			t.Parallel()
			_, f := h.recall(t, serve(t, reply(status, h.Success(""))), providers.Options{})
			if f == nil || f.Kind != kind {
				t.Errorf("got %v, want a fault of kind %s", f, kind)
			}
		})
	}
}

// testCodes: every documented code means what the documents say, as number and as string, whatever the HTTP status.
func testCodes(t *testing.T, h Harness) {
	missing := map[providers.Kind]Capability{
		providers.AlreadyRecalled: NoAlreadyRecalled, providers.NotFound: NoNotFound,
		providers.WindowClosed: NoWindowClosed, providers.Throttled: NoThrottled,
	}
	var expected []string
	kinds := map[providers.Kind]bool{}
	for _, c := range h.Codes {
		expected = append(expected, c.Code)
		kinds[c.Kind] = true
		status := c.Status
		if status == 0 {
			status = h.refusal()
		}
		t.Run(c.Code, func(t *testing.T) {
			t.Parallel()
			testCode(t, h, c, status, c.Code)
			testCode(t, h, c, status, strconv.Quote(c.Code))
			if !c.StatusMatters {
				testCode(t, h, c, http.StatusInternalServerError, c.Code)
				testCode(t, h, c, http.StatusBadRequest, c.Code)
				testCode(t, h, c, http.StatusUnauthorized, c.Code)
			}
		})
	}
	for kind, capability := range missing {
		if kinds[kind] == h.cannot(capability) {
			t.Errorf("codes of kind %s: %t, but the harness says %t to %q", kind, kinds[kind], h.cannot(capability), capability)
		}
	}
	known := append([]string(nil), h.Known...)
	sort.Strings(known)
	sort.Strings(expected)
	if strings.Join(known, " ") != strings.Join(expected, " ") {
		t.Errorf("the provider's table knows\n%s, the documents\n%s", strings.Join(known, " "), strings.Join(expected, " "))
	}
	for _, code := range append(known, h.Code) {
		if code == h.Undocumented {
			t.Errorf("code %s is documented", code)
		}
	}
}

func testCode(t *testing.T, h Harness, c Code, status int, literal string) {
	t.Helper()
	const words = "消息: the vendor's own words"
	_, f := h.recall(t, serve(t, reply(status, h.Error(literal, words, "req-9c1e"))), providers.Options{})
	want(t, f, c.Kind, c.Code, c.Kind == providers.Unavailable)
	if f.Message != words {
		t.Errorf("message is %q, want the vendor's %q", f.Message, words)
	}
	if f.Ambiguous != c.Ambiguous {
		t.Errorf("Ambiguous is %t, want %t", f.Ambiguous, c.Ambiguous)
	}
	if f.WholeAccount != c.WholeAccount {
		t.Errorf("WholeAccount is %t, want %t", f.WholeAccount, c.WholeAccount)
	}
	if got := f.RequestID; h.cannot(NoFaultID) != (got == "") || got != "" && got != "req-9c1e" {
		t.Errorf("the fault's request id is %q", got)
	}
	if f.Err != nil || f.RetryAfter != 0 {
		t.Errorf("Err is %v, RetryAfter %s; an answer has neither here", f.Err, f.RetryAfter)
	}
}

// statuses are the HTTP statuses that decide where the vendor's code says nothing, and what they mean with and without
// the vendor's envelope. Contract, section 4.
var statuses = []struct {
	status             int
	enveloped, foreign providers.Kind
}{
	{http.StatusOK, providers.Invalid, providers.Unavailable},
	{http.StatusMovedPermanently, providers.Misconfigured, providers.Misconfigured},
	{http.StatusFound, providers.Misconfigured, providers.Misconfigured},
	{http.StatusTemporaryRedirect, providers.Misconfigured, providers.Misconfigured},
	{http.StatusPermanentRedirect, providers.Misconfigured, providers.Misconfigured},
	{http.StatusBadRequest, providers.Invalid, providers.Invalid},
	{http.StatusUnauthorized, providers.Credentials, providers.Credentials},
	{http.StatusForbidden, providers.Credentials, providers.Credentials},
	{http.StatusNotFound, providers.Invalid, providers.Misconfigured},
	{http.StatusMethodNotAllowed, providers.Invalid, providers.Misconfigured},
	{http.StatusConflict, providers.Invalid, providers.Invalid},
	{http.StatusGone, providers.Invalid, providers.Invalid},
	{http.StatusUnprocessableEntity, providers.Invalid, providers.Invalid},
	{http.StatusTooManyRequests, providers.Throttled, providers.Throttled},
	{http.StatusInternalServerError, providers.Unavailable, providers.Unavailable},
	{http.StatusBadGateway, providers.Unavailable, providers.Unavailable},
	{http.StatusServiceUnavailable, providers.Unavailable, providers.Unavailable},
	{http.StatusGatewayTimeout, providers.Unavailable, providers.Unavailable},
	{520, providers.Unavailable, providers.Unavailable},
}

// testStatus: where the vendor's code says nothing, the HTTP status does.
func testStatus(t *testing.T, h Harness) {
	for _, s := range statuses {
		t.Run(strconv.Itoa(s.status), func(t *testing.T) {
			t.Parallel()
			_, f := h.recall(t, serve(t, reply(s.status, h.Error(h.Undocumented, "no words", ""))), providers.Options{})
			want(t, f, s.enveloped, h.Undocumented, mayBeDone(s.enveloped, s.status))

			code := fmt.Sprintf("HTTP %d", s.status)
			for name, body := range map[string]string{"html": html, "empty": "", "garbage": "\x00\xff\x1b[31m{{", "json": `{"hello":"world"}`} {
				if s.status == http.StatusOK && (name == "empty" && h.cannot(EmptySuccess) || name == "json") {
					continue // testBody has these
				}
				_, f := h.recall(t, serve(t, reply(s.status, body)), providers.Options{})
				want(t, f, s.foreign, code, mayBeDone(s.foreign, s.status))
			}
		})
	}
}

// mayBeDone: how far the vendor came is unknown when it fails, but 503 means that it did not begin.
func mayBeDone(kind providers.Kind, status int) bool {
	return kind == providers.Unavailable && status != http.StatusServiceUnavailable
}

// testRetryAfter: both forms are read, and what makes no sense is no waiting time.
func testRetryAfter(t *testing.T, h Harness) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for _, c := range []struct {
			value    string
			min, max time.Duration
		}{
			{"120", 120 * time.Second, 120 * time.Second},
			{"0", 0, 0},
			{"-5", 0, 0},
			{"soon", 0, 0},
			{"99999999999999999999", 24 * time.Hour, 1 << 62},
			{time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat), 80 * time.Second, 91 * time.Second},
			{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		} {
			t.Run(fmt.Sprintf("%d %s", status, c.value), func(t *testing.T) {
				t.Parallel()
				for _, body := range []string{"", h.Error(h.Undocumented, "later", "")} {
					_, f := h.recall(t, serve(t, func(w http.ResponseWriter, s seen) {
						w.Header().Set("Retry-After", c.value)
						reply(status, body)(w, s)
					}), providers.Options{})
					if f == nil {
						t.Fatal("the recall was accepted")
					}
					if f.RetryAfter < c.min || f.RetryAfter > c.max {
						t.Errorf("RetryAfter is %s, want %s to %s", f.RetryAfter, c.min, c.max)
					}
				}
			})
		}
	}
}

// testBody: only the vendor's own answer is an acceptance, and it is one whatever its content type says.
func testBody(t *testing.T, h Harness) {
	success := h.Success("")
	for name, contentType := range map[string]string{"plain text": "text/plain", "html": "text/html", "none": "", "nonsense": ";;;"} {
		t.Run("success as "+name, func(t *testing.T) {
			t.Parallel()
			_, f := h.recall(t, serve(t, func(w http.ResponseWriter, _ seen) {
				w.Header()["Content-Type"] = []string{contentType}
				_, _ = w.Write([]byte(success))
			}), providers.Options{})
			if f != nil {
				t.Errorf("the recall was not accepted: %v", f)
			}
		})
	}
	large := strings.Repeat(" ", 10<<20)
	for name, body := range map[string]string{
		"html":             html,
		"text":             "ok",
		"number":           "0",
		"string":           `"ok"`,
		"null":             "null",
		"list":             `[0,200,"OK"]`,
		"half":             success[:len(success)-1],
		"twice":            success + success,
		"10 MB":            large,
		"10 MB of success": success + large,
		"code is a list":   h.Error(`[1]`, "x", ""),
		"code is too long": h.Error(strings.Repeat("9", 400), "x", ""),
		"code is a text":   h.Error(`"what"`, "x", ""),
	} {
		t.Run(name+" under 200", func(t *testing.T) {
			t.Parallel()
			_, f := h.recall(t, serve(t, reply(http.StatusOK, body)), providers.Options{})
			want(t, f, providers.Unavailable, "HTTP 200", true)
		})
	}
	t.Run("empty under 200", func(t *testing.T) {
		t.Parallel()
		_, f := h.recall(t, serve(t, reply(http.StatusOK, "")), providers.Options{})
		if h.cannot(EmptySuccess) {
			if f != nil {
				t.Errorf("the recall was not accepted: %v", f)
			}
			return
		}
		want(t, f, providers.Unavailable, "HTTP 200", true)
	})
	t.Run("large message", func(t *testing.T) {
		t.Parallel()
		words := strings.Repeat("撤回\t\u0007 ", 20_000)
		_, f := h.recall(t, serve(t, reply(h.refusal(), h.Error(h.Undocumented, words, strings.Repeat("id ", 1000)))), providers.Options{})
		if f == nil || len(f.RequestID) > 256 {
			t.Errorf("got %v", f)
		}
	})
}
