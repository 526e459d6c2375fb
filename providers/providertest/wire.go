package providertest

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/recallq/recallq/providers"
)

// Wire is a fixture and what is done with it: the provider must make exactly the fixture's request out of Request, and out
// of the fixture's answer the code and kind given here.
type Wire struct {
	// File is the fixture, for example "testdata/success.wire"; see [Exchange] for its form.
	File    string
	Request providers.Request
	// BaseURL is the vendor's base URL in the fixture, if it is not the harness's.
	BaseURL string
	// Kind is empty if the fixture's answer accepts the recall.
	Kind providers.Kind
	// Code is the code in the receipt or fault.
	Code string
	// Message is the fault's message; empty means that it is not compared.
	Message string
}

// Exchange is a fixture: one request and one answer, written from a vendor's document. The file has comment lines that
// start with '#', of which the first names the document; a line "-- request --" and the request; a line "-- answer --"
// and the answer. Both are written as HTTP/1.1 has them, with the absolute URL in the request line and without
// Content-Length:
//
//	# seed 000: Jiguang UMS, Message withdrawn. v1
//	-- request --
//	POST https://api.ums.jiguang.cn/v1/retract/v:1t:1603707455p:27133n:2 HTTP/1.1
//	Authorization: Basic N2Q0…
//
//	-- answer --
//	HTTP/1.1 200 OK
//	Content-Type: application/json
//
//	{"code":0,"message":"success"}
//
// {name} in a request stands for a value that differs from call to call (a nonce, a UserSig). A body ends before the line
// break that ends the file.
type Exchange struct {
	Source string // the first comment line, without '#'
	Method string
	URL    string
	Header http.Header
	Body   string

	Status       int
	AnswerHeader http.Header
	AnswerBody   string
}

// ReadExchange reads a fixture.
func ReadExchange(file string) (Exchange, error) {
	var e Exchange
	data, err := os.ReadFile(file)
	if err != nil {
		return e, err
	}
	comment, rest, ok := strings.Cut(string(data), "-- request --\n")
	if !ok {
		return e, fmt.Errorf("%s: no line %q", file, "-- request --")
	}
	e.Source = strings.TrimSpace(strings.TrimPrefix(strings.SplitN(comment, "\n", 2)[0], "#"))
	if !strings.HasPrefix(comment, "#") || e.Source == "" {
		return e, fmt.Errorf("%s: the first line must name the document, after '#'", file)
	}
	request, answer, ok := strings.Cut(rest, "-- answer --\n")
	if !ok {
		return e, fmt.Errorf("%s: no line %q", file, "-- answer --")
	}
	var first string
	first, e.Header, e.Body = message(request)
	if f := strings.Fields(first); len(f) == 3 {
		e.Method, e.URL = f[0], f[1]
	} else {
		return e, fmt.Errorf("%s: bad request line %q", file, first)
	}
	first, e.AnswerHeader, e.AnswerBody = message(answer)
	f := strings.Fields(first)
	if len(f) < 2 {
		return e, fmt.Errorf("%s: bad status line %q", file, first)
	}
	if e.Status, err = strconv.Atoi(f[1]); err != nil {
		return e, fmt.Errorf("%s: bad status line %q", file, first)
	}
	return e, nil
}

func message(text string) (first string, header http.Header, body string) {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	header = http.Header{}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		header.Add(name, strings.TrimSpace(value))
	}
	return lines[0], header, strings.TrimSuffix(body, "\n")
}

var placeholder = regexp.MustCompile(`\\\{[a-z_]+\\\}`)

// matches reports whether got is what the fixture has, placeholders standing for any value.
func matches(fixture, got string) bool {
	pattern := placeholder.ReplaceAllString(regexp.QuoteMeta(fixture), `[^&\s"]+`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}

// transportHeaders are those that say nothing to the vendor's API and stand in no document.
var transportHeaders = map[string]bool{"User-Agent": true, "Content-Length": true, "Connection": true}

func testWire(t *testing.T, h Harness) {
	for _, wire := range h.Wire {
		t.Run(wire.File, func(t *testing.T) {
			t.Parallel()
			e, err := ReadExchange(wire.File)
			if err != nil {
				t.Fatal(err)
			}
			v := serve(t, func(w http.ResponseWriter, _ seen) {
				for name, values := range e.AnswerHeader {
					w.Header()[name] = values
				}
				w.WriteHeader(e.Status)
				_, _ = w.Write([]byte(e.AnswerBody))
			})
			h := h // the subtests run in parallel
			h.Request = wire.Request
			receipt, f := h.recall(t, v, providers.Options{})
			base := wire.BaseURL
			if base == "" {
				base = h.BaseURL
			}
			compareWire(t, e, base, v.requests()[0])
			if wire.Kind != "" {
				want(t, f, wire.Kind, wire.Code, wire.Kind == providers.Unavailable)
				if wire.Message != "" && f.Message != wire.Message {
					t.Errorf("message is %q, want %q", f.Message, wire.Message)
				}
				return
			}
			if f != nil {
				t.Fatalf("the recall was not accepted: %v", f)
			}
			if receipt.Code != wire.Code {
				t.Errorf("the receipt's code is %q, want %q", receipt.Code, wire.Code)
			}
		})
	}
}

func compareWire(t *testing.T, e Exchange, base string, got seen) {
	t.Helper()
	if got.Method != e.Method {
		t.Errorf("method is %s, want %s", got.Method, e.Method)
	}
	if url := base + got.RequestURI; !matches(e.URL, url) {
		t.Errorf("URL is\n%s, want\n%s", url, e.URL)
	}
	if !matches(e.Body, string(got.body)) {
		t.Errorf("body is\n%s, want\n%s", got.body, e.Body)
	}
	names := map[string]bool{}
	for name := range e.Header {
		names[name] = true
	}
	for name := range got.Header {
		names[name] = names[name] || !transportHeaders[name]
	}
	var sorted []string
	for name, compare := range names {
		if compare {
			sorted = append(sorted, name)
		}
	}
	sort.Strings(sorted)
	for _, name := range sorted {
		if have, wanted := got.Header.Get(name), e.Header.Get(name); !matches(wanted, have) {
			t.Errorf("header %s is %q, want %q", name, have, wanted)
		}
	}
	// Without a body a POST says Content-Length: 0, and with one it gives the length: never chunked, which some gateways
	// refuse.
	if len(got.TransferEncoding) > 0 || got.ContentLength != int64(len(got.body)) {
		t.Errorf("the body's length is not given: Content-Length %d, Transfer-Encoding %v", got.ContentLength, got.TransferEncoding)
	}
	if bytes.HasPrefix(got.body, []byte("\xef\xbb\xbf")) {
		t.Error("the body starts with a byte order mark")
	}
}
