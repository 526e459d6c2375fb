package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/recallq/recallq/providers"
)

const (
	// MaxBody is how many bytes of an answer are read. A vendor's answer has some hundred; a larger one is not the vendor's.
	MaxBody = 1 << 20

	// defaultIdle is how long an idle connection is kept, unless the provider says otherwise. RongCloud asks for less than
	// 55 s (https://docs.rongcloud.io/platform-chat-api/base-url), and a short time is good for all: the longer a connection
	// has idled, the likelier it is that the vendor closes it just as a recall is written to it.
	defaultIdle = 50 * time.Second

	// behind is how long after a call's end a connection is still being made.
	behind = 100 * time.Millisecond

	maxHeader = 64 << 10
	maxIdle   = 128
)

// Options are what a [Client] is made from.
type Options struct {
	// BaseURL is scheme and host, optionally with a path prefix that goes before every call's path.
	BaseURL string
	// Timeout bounds a call from dialling to the last byte of its answer; zero means [providers.DefaultTimeout].
	Timeout time.Duration
	// MaxConns bounds the connections; zero means no bound.
	MaxConns int
	// DisableKeepAlives makes every call use a connection of its own.
	DisableKeepAlives bool
	// IdleConnTimeout is how long an idle connection is kept; zero means 50 s.
	IdleConnTimeout time.Duration
	// Secrets are replaced by "[redacted]" wherever a vendor echoes them. Give every form that goes over the wire: the
	// secret, and the value of [Basic].
	Secrets []string
	// Now is the clock against which a Retry-After date is read if the answer itself has no Date; nil means time.Now.
	Now func() time.Time
}

// Client calls one vendor. It has connections of its own, so that a vendor that hangs holds up no other.
//
// It is safe for concurrent use.
type Client struct {
	transport *http.Transport
	base      *url.URL
	timeout   time.Duration
	secrets   []string
	now       func() time.Time
}

// New checks the base URL and returns a client. The error is a [*providers.FieldError] for base_url.
func New(opt Options) (*Client, error) {
	base, err := parseBase(opt.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base, timeout: opt.Timeout, secrets: forms(opt.Secrets), now: opt.Now}
	if c.timeout <= 0 {
		c.timeout = providers.DefaultTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	idle := opt.IdleConnTimeout
	if idle <= 0 {
		idle = defaultIdle
	}
	idleConns := opt.MaxConns
	if idleConns <= 0 {
		idleConns = maxIdle
	}
	// HTTP/1.1 only. Over HTTP/2 net/http sends a request again by itself when the server refuses the stream or goes away,
	// after bytes of it were written; a recall is one request, and whether to make another is the policy's business.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		Proxy: proxy,
		// The call's context ends first, and says why; these two bound what net/http lets run on behind it.
		DialContext:            (&net.Dialer{Timeout: c.timeout + behind, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    c.timeout + behind,
		Protocols:              protocols,
		DisableKeepAlives:      opt.DisableKeepAlives,
		DisableCompression:     true,
		MaxConnsPerHost:        opt.MaxConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: maxHeader,
	}
	return c, nil
}

// Close closes the idle connections. Calls in flight are not disturbed.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// proxy is http.ProxyFromEnvironment without its error text, which holds the proxy's URL and password.
func proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, errors.New("the proxy in the environment (HTTPS_PROXY) is no valid URL")
	}
	return u, nil
}

// parseBase never puts the URL into its error: someone may have written a password into it.
func parseBase(raw string) (*url.URL, error) {
	wrong := func(reason string) (*url.URL, error) {
		return nil, &providers.FieldError{Field: "base_url", Reason: reason}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return wrong("is no valid URL; write it like https://api.example.com")
	case u.Scheme != "https" && u.Scheme != "http":
		return wrong("must start with https:// (or http:// for a simulator on this machine)")
	case u.Hostname() == "":
		return wrong("has no host; write it like https://api.example.com")
	case u.User != nil:
		return wrong("must not hold a user or password; credentials have keys of their own")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return wrong("must end with the host or a path; remove everything from ? or # on")
	}
	return u, nil
}

// Call is one request.
type Call struct {
	// Method is POST or DELETE. Others are refused, because net/http may send a GET again by itself.
	Method string
	// Path starts with "/" and is escaped already; see [Segment].
	Path string
	// Query is the URL's query; it never appears in an error.
	Query url.Values
	// Header are headers beside Content-Type and User-Agent.
	Header http.Header
	// Body is the request's body; nil means none. It must not be changed afterwards.
	Body []byte
	// ContentType is the body's Content-Type; empty means no such header.
	ContentType string
	// Secrets are secrets of this call alone, such as a UserSig, beside those of the [Options].
	Secrets []string
}

// Answer is what came back, whole.
type Answer struct {
	Status     int
	Header     http.Header
	Body       []byte        // at most MaxBody bytes
	RetryAfter time.Duration // zero if the answer does not say, or says a time that has passed

	secrets []string
}

// Do makes exactly one HTTP request and reads its answer. Redirects are not followed: a 3xx is an answer.
//
// The fault, if any, is of kind Unavailable: no connection, no answer, or one that is cut off, too large or too slow (but where
// its status says it all: 401, 403 and 429 are an Answer without a body then). Its
// MaybeDone is false only if nothing of the request can have been written. Its Err is context.Canceled or
// context.DeadlineExceeded if ctx was done or the timeout was over. A fault of kind Invalid means that the call itself is
// malformed; then nothing was sent either.
//
// Do keeps an httptrace.ClientTrace that is in ctx working. It returns within 100 ms of ctx being done.
func (c *Client) Do(ctx context.Context, call Call) (*Answer, *providers.Fault) {
	secrets := c.secrets
	if len(call.Secrets) > 0 {
		secrets = append(append([]string(nil), c.secrets...), forms(call.Secrets)...)
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var sent atomic.Bool
	req, err := c.request(httptrace.WithClientTrace(bounded, watch(&sent)), call)
	if err != nil {
		return nil, &providers.Fault{Kind: providers.Invalid, Message: line(err.Error(), secrets, providers.MaxMessage)}
	}
	// RoundTrip rather than http.Client: it follows no redirect and puts no URL into its errors.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.lost(bounded, err, sent.Load(), secrets)
	}
	defer resp.Body.Close()
	answer := &Answer{
		Status: resp.StatusCode, Header: resp.Header, secrets: secrets,
		RetryAfter: retryAfter(resp.Header, c.now()),
	}
	answer.Body, err = io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err == nil && len(answer.Body) > MaxBody {
		err = errTooLarge
	}
	if err != nil && saysAll(answer.Status) {
		answer.Body, err = nil, nil
	}
	if err != nil {
		f := c.lost(bounded, err, true, secrets)
		f.Code, f.RetryAfter = statusCode(answer.Status), answer.RetryAfter
		return nil, f
	}
	return answer, nil
}

// saysAll reports whether a status is an answer to the point whatever becomes of its body: too many calls, or an account that is
// refused. They concern the whole lane, and the next call would bring the same.
func saysAll(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusUnauthorized || status == http.StatusForbidden
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", MaxBody)

func (c *Client) request(ctx context.Context, call Call) (*http.Request, error) {
	if call.Method != http.MethodPost && call.Method != http.MethodDelete {
		return nil, fmt.Errorf("method %q: only POST and DELETE are sent once and never again", call.Method)
	}
	escaped := strings.TrimRight(c.base.EscapedPath(), "/") + call.Path
	path, err := url.PathUnescape(escaped)
	if err != nil || !strings.HasPrefix(call.Path, "/") {
		return nil, errors.New("the path is not escaped")
	}
	u := &url.URL{Scheme: c.base.Scheme, Host: c.base.Host, Path: path, RawPath: escaped, RawQuery: call.Query.Encode()}
	if u.EscapedPath() != escaped {
		return nil, errors.New("the path is not escaped")
	}
	var body io.Reader
	if call.Body != nil {
		body = bytes.NewReader(call.Body)
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, "http://host", body)
	if err != nil {
		return nil, errors.New("the request cannot be built")
	}
	req.URL, req.Host = u, u.Host
	for name, values := range call.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	req.Header.Set("User-Agent", "recallq")
	if call.ContentType != "" {
		req.Header.Set("Content-Type", call.ContentType)
	}
	return req, nil
}

// watch notes whether the request may have been written. From the moment a connection is had, net/http writes to it on a
// goroutine of its own, so that a call cancelled just then may be written a moment later: having a connection counts.
// net/http asks for another connection only when nothing at all was written to the one before, so asking starts afresh.
func watch(sent *atomic.Bool) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { sent.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	}
}
