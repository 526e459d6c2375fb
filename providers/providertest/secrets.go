package providertest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/recallq/recallq/providers"
)

// testSecrets: a vendor, or a proxy on the way, shows everything it was sent wherever it can; none of it comes back out.
func testSecrets(t *testing.T, h Harness) {
	for _, status := range []int{200, 400, 401, 403, 404, 429, 500, 502} {
		t.Run(fmt.Sprintf("in the message, %d", status), func(t *testing.T) {
			t.Parallel()
			for _, secret := range append([]string{""}, h.Secrets...) {
				v := serve(t, func(w http.ResponseWriter, s seen) {
					text := secret
					if secret == "" {
						text = dump(s, h.Secrets)
					}
					reply(status, h.Error(h.Undocumented, text, text))(w, s)
				})
				if _, f := h.recall(t, v, providers.Options{}); f == nil {
					t.Error("the recall was accepted")
				}
			}
		})
		t.Run(fmt.Sprintf("as a page, %d", status), func(t *testing.T) {
			t.Parallel()
			v := serve(t, func(w http.ResponseWriter, s seen) {
				w.Header().Set("Content-Type", "text/"+h.Secrets[0])
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "<html>"+dump(s, h.Secrets))
			})
			if _, f := h.recall(t, v, providers.Options{}); f == nil {
				t.Error("the recall was accepted")
			}
		})
	}
	t.Run("in the message, behind a long text", func(t *testing.T) {
		t.Parallel()
		for pad := 150; pad < 205; pad += 3 {
			v := serve(t, func(w http.ResponseWriter, s seen) {
				secrets := append(s.secrets(), h.Secrets...)
				text := strings.Repeat("x", pad) + secrets[pad%len(secrets)]
				reply(http.StatusBadRequest, h.Error(h.Undocumented, text, ""))(w, s)
			})
			_, f := h.recall(t, v, providers.Options{})
			// What is left of a secret that was cut short is as good as the start of it.
			tail := strings.TrimLeft(f.Message, "x")
			if tail != "" && !strings.HasPrefix("[redacted]", strings.TrimSuffix(tail, "…")) {
				t.Errorf("the message ends with %q", tail)
			}
		}
	})
	t.Run("cut short by the vendor", func(t *testing.T) {
		t.Parallel()
		for _, secret := range h.Secrets {
			if len(secret) < 24 || !utf8.ValidString(secret) {
				continue
			}
			for _, part := range []string{secret[:len(secret)-4], secret[4:]} {
				v := serve(t, reply(http.StatusUnauthorized, h.Error(h.Undocumented, "bad key "+part+" given", "")))
				if _, f := h.recall(t, v, providers.Options{}); strings.Contains(f.Message, part) {
					t.Errorf("a part of a secret is in %q", f.Message)
				}
			}
		}
	})
	t.Run("in the receipt", func(t *testing.T) {
		t.Parallel()
		v := serve(t, func(w http.ResponseWriter, s seen) { reply(http.StatusOK, h.Success(dump(s, h.Secrets)))(w, s) })
		if receipt, f := h.recall(t, v, providers.Options{}); f != nil || len(receipt.RequestID) > 256 {
			t.Errorf("got %+v, %v", receipt, f)
		}
	})
	t.Run("in a redirect", func(t *testing.T) {
		t.Parallel()
		v := serve(t, func(w http.ResponseWriter, s seen) {
			w.Header().Set("Location", "http://127.0.0.1:1"+s.RequestURI+"?"+strings.Join(h.Secrets, "&"))
			w.WriteHeader(http.StatusFound)
		})
		h.recall(t, v, providers.Options{})
	})
	t.Run("instead of HTTP", func(t *testing.T) {
		t.Parallel()
		for _, secret := range h.Secrets {
			url := raw(t, func(conn net.Conn, _ int) {
				if readRequest(conn) {
					_, _ = io.WriteString(conn, secret+"\r\n\r\n")
				}
			})
			_, err := h.provider(t, url, providers.Options{}).Recall(t.Context(), h.Request)
			if fault(t, err, h.Secrets) == nil {
				t.Error("the recall was accepted")
			}
		}
	})
}

// testIDs: an id is one id to the vendor, whatever is in it. What cannot be sent as one is refused without a request.
func testIDs(t *testing.T, h Harness) {
	normal := serve(t, reply(http.StatusOK, h.Success("")))
	h.recall(t, normal, providers.Options{})
	like := normal.requests()[0]
	for _, id := range []string{
		"a/b", "/", "//", "../../v1/messages", "..", ".", "...", "a/../b", "..%2f..", "%2e%2e", "%", "%2F", "%zz", "a?b=c", "?", "a#b", "#",
		"a&b=c", "a+b", "a b", "a;b", "a=b", `"`, `\`, `a","b":"c`, "v:1t:1603707455p:27133n:2", "é", "撤回", "a\r\nX-Evil: 1", "a\x00b", "<&>\u2028",
		strings.Repeat("9", 256),
	} {
		t.Run(fmt.Sprintf("%.24q", id), func(t *testing.T) {
			t.Parallel()
			v := serve(t, reply(http.StatusOK, h.Success("")))
			req := h.Request
			req.MessageID = id
			_, err := h.provider(t, v.URL, providers.Options{}).Recall(t.Context(), req)
			f := fault(t, err, h.Secrets)
			seen := v.requests()
			if f != nil {
				if f.Kind != providers.Invalid || f.MaybeDone || len(seen) > 0 {
					t.Errorf("got %v and %d requests; an id that cannot be sent is Invalid and sends nothing", f, len(seen))
				}
				return
			}
			if len(seen) != 1 {
				t.Fatalf("the vendor was sent %d requests, want 1", len(seen))
			}
			got, err := h.ID(seen[0].Request, seen[0].body)
			if err != nil || got != id {
				t.Errorf("the vendor reads the id %q (%v), want %q", got, err, id)
			}
			compareShape(t, like, seen[0])
		})
	}
}

// compareShape fails if a request goes elsewhere than like: other method, other path segments but the last, another
// number of them, other query keys, other headers.
func compareShape(t *testing.T, like, got seen) {
	t.Helper()
	shape := func(s seen) string {
		path, _, _ := strings.Cut(s.RequestURI, "?")
		segments := strings.Split(path, "/")
		if like.URL.RawQuery == "" && len(like.body) == 0 {
			segments[len(segments)-1] = "{id}" // the id can be nowhere else
		}
		query := s.URL.Query()
		return fmt.Sprintf("%s %s, %d query keys, %d headers", s.Method, strings.Join(segments, "/"), len(query), len(s.Header))
	}
	if a, b := shape(like), shape(got); a != b {
		t.Errorf("the request is %s, want %s", b, a)
	}
}
