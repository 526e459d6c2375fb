package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/recallq/recallq/providers"
)

// lost describes a call without a usable answer.
func (c *Client) lost(ctx context.Context, err error, sent bool, secrets []string) *providers.Fault {
	f := &providers.Fault{Kind: providers.Unavailable, MaybeDone: sent}
	what := "no connection"
	if sent {
		what = "no usable answer"
	}
	// ctx.Err() rather than err: net/http returns the context's cause, whose text is the caller's and may be anything.
	switch ctx.Err() {
	case context.Canceled:
		f.Message, f.Err = what+": the call was cancelled", context.Canceled
	case context.DeadlineExceeded:
		f.Message, f.Err = fmt.Sprintf("%s within the time allowed (timeout %s)", what, c.timeout), context.DeadlineExceeded
	default:
		f.Err = strip(err, secrets)
		f.Message = line(what+": "+f.Err.Error(), nil, providers.MaxMessage)
	}
	return f
}

// cause is an error of net/http of which only the cleaned text and a harmless root are left: the chain in between may hold
// a URL, or bytes that the server sent.
type cause struct {
	text string
	root error
}

func (e *cause) Error() string { return e.text }
func (e *cause) Unwrap() error { return e.root }

func strip(err error, secrets []string) error {
	var withURL *url.Error
	for errors.As(err, &withURL) {
		err = withURL.Err
	}
	return &cause{text: line(err.Error(), secrets, providers.MaxMessage), root: root(err)}
}

// root returns an error of fixed text that errors.Is can be asked for.
func root(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, errTooLarge} {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

// Class is what a vendor's code means: an entry of a provider's code table.
type Class struct {
	Kind         providers.Kind
	Ambiguous    bool // see providers.Fault
	WholeAccount bool // see providers.Fault
}

// Table is a provider's code table.
type Table map[string]Class

// Find returns what the table says about a code, or nil if it says nothing.
func (t Table) Find(code string) *Class {
	if class, ok := t[code]; ok {
		return &class
	}
	return nil
}

// Envelope is the vendor's own part of an answer. An empty Code means that the answer is not in the vendor's form.
type Envelope struct {
	Code      string // of [Code]
	Message   string // raw; Fault cleans it
	RequestID string // raw; Fault cleans it
}

// ByStatus says what an answer means whose vendor code says nothing, because there is none or nobody documented it.
// Success is the provider's to judge, before.
func ByStatus(status int, enveloped bool) providers.Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.Credentials
	case status >= 500:
		return providers.Unavailable
	case status == http.StatusRequestTimeout:
		// The one 4xx that is about the way and not about the request.
		return providers.Unavailable
	case !enveloped && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed):
		return providers.Misconfigured
	case status >= 400:
		return providers.Invalid
	case status >= 300:
		return providers.Misconfigured
	case enveloped:
		// A refusal under 200: a business code that nobody documented.
		return providers.Invalid
	}
	// Garbage, HTML or nothing under 200: what became of the recall is unknown.
	return providers.Unavailable
}

// Fault is the error for an answer that is no success. known is what the provider's table says about the code, or nil if
// it says nothing.
func (a *Answer) Fault(e Envelope, known *Class) *providers.Fault {
	f := &providers.Fault{
		Code:       e.Code,
		Message:    line(e.Message, a.secrets, providers.MaxMessage),
		RequestID:  a.Text(e.RequestID),
		RetryAfter: a.RetryAfter,
	}
	// A gateway's {"code":404} is a status in disguise and no word of the vendor's.
	enveloped := e.Code != "" && (known != nil || e.Code != strconv.Itoa(a.Status))
	if !enveloped {
		f.Code = statusCode(a.Status)
	}
	if known != nil {
		f.Kind, f.Ambiguous, f.WholeAccount = known.Kind, known.Ambiguous, known.WholeAccount
	} else {
		f.Kind = ByStatus(a.Status, enveloped)
	}
	// "Internal error" is no refusal: how far the vendor came is unknown. But 503 says that the request was not taken on
	// (RFC 9110, 15.6.4), unless the vendor itself has another word for it.
	f.MaybeDone = f.Kind == providers.Unavailable && (known != nil || a.Status != http.StatusServiceUnavailable)
	if known == nil && f.Kind == providers.Unavailable && a.Status >= 500 && f.RetryAfter > 0 {
		// Who says when to come back means everybody, not this recall alone.
		f.Kind = providers.Throttled
	}
	if f.Message == "" {
		f.Message = a.describe(enveloped)
	}
	return f
}

func statusCode(status int) string { return "HTTP " + strconv.Itoa(status) }

// describe says what came instead of a vendor's message. It quotes nothing of the body: error pages like to show the URL
// that was asked for, with its query.
func (a *Answer) describe(enveloped bool) string {
	if enveloped {
		return "the vendor gave no message (" + statusCode(a.Status) + ")"
	}
	kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		kind = "no content type"
	}
	where := ""
	if a.Status >= 300 && a.Status < 400 {
		where = "; redirects are not followed, check base_url"
	}
	return line(fmt.Sprintf("the answer is not in the vendor's form (%s, %s, %d bytes)%s",
		statusCode(a.Status), providers.Line(kind, 60), len(a.Body), where), a.secrets, providers.MaxMessage)
}

// Text makes a short text of the vendor's, such as a request id, fit to be shown: one line of at most 128 bytes without
// secrets.
func (a *Answer) Text(s string) string { return line(s, a.secrets, 128) }

// Object returns the members of the JSON object that the body is, whatever its content type says; false if it is none.
func (a *Answer) Object() (map[string]json.RawMessage, bool) {
	return Object(bytes.TrimPrefix(a.Body, []byte("\xef\xbb\xbf")))
}

// Object returns the members of a JSON object; false if raw is none.
func Object(raw []byte) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, false
	}
	return members, true
}

var integer = regexp.MustCompile(`^-?[0-9]{1,18}$`)

// Code reads a vendor's code, which must be an integer, as JSON number or as string. Anything else is empty: it is not the
// vendor's, and it could be anything.
func Code(raw json.RawMessage) string {
	text := string(raw)
	if s, ok := str(raw); ok {
		text = strings.TrimSpace(s)
	}
	if !integer.MatchString(text) {
		return ""
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// String reads a JSON string, or a number as it stands; anything else is empty.
func String(raw json.RawMessage) string {
	if s, ok := str(raw); ok {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

func str(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// maxRetryAfter keeps absurd values from overflowing; no recall waits for a year.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter reads both forms of Retry-After (RFC 9110, 10.2.3). A date is compared with the answer's own Date, so that a
// clock of ours that is wrong does not shorten the wait.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
