// Package rongcloud takes broadcasts of RongCloud back: POST /message/broadcast/recall.json, as seed 004 describes it. The seed's
// example shows another path, which is another API's; RongCloud's own Go and Java SDKs use this one.
//
// A recall is itself a message to every user of the app, so RongCloud grants two an hour and three a calendar day. It documents
// no code for a broadcast that was recalled before, is too old or is unknown.
package rongcloud

import (
	"context"
	"crypto/sha1" //nolint:gosec // RongCloud's signature is SHA-1 by its documents.
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

const (
	path = "/message/broadcast/recall.json"

	// maxNonce bounds the nonce to the 18 characters that https://docs.rongcloud.io/platform-chat-api/auth allows.
	maxNonce = 1_000_000_000_000_000_000

	// maxRequestID is the length of an X-Request-ID
	// (https://help.rongcloud.io/t/how-to-generate-the-x-request-id-field-in-server-api-request-headers/164).
	maxRequestID = 36
)

// Client takes back the broadcasts of one app. It is safe for concurrent use.
type Client struct {
	config Config
	rest   *rest.Client
	spec   providers.Spec
	now    func() time.Time
	codes  map[string]code
}

var _ providers.Provider = (*Client)(nil)

// New returns a client. Its errors are the [*providers.FieldError]s of [Config.Check], or one for base_url.
func New(c Config, opt providers.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	base := opt.BaseURL
	if base == "" {
		base = c.BaseURL()
	}
	now := opt.Now
	if now == nil {
		now = time.Now
	}
	// RongCloud asks not to keep connections alive (https://docs.rongcloud.io/platform-chat-api/base-url), and at three calls a
	// day there is nothing to gain.
	client, err := rest.New(rest.Options{
		BaseURL: base, Timeout: opt.Timeout, MaxConns: opt.MaxConns, DisableKeepAlives: true, Now: now,
		Secrets: c.Secrets(),
	})
	if err != nil {
		return nil, err
	}
	spec, _ := providers.Lookup(providers.RongCloud)
	return &Client{config: c, rest: client, spec: spec, now: now, codes: codeTable()}, nil
}

// Close releases idle connections. Calls in flight are not disturbed.
func (c *Client) Close() { c.rest.Close() }

// Recall implements [providers.Provider].
func (c *Client) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	now := c.now()
	header := c.header(req, now)
	answer, fault := c.rest.Do(ctx, rest.Call{
		Method: http.MethodPost, Path: path, Header: header,
		Body: []byte(c.form(req, now).Encode()), ContentType: "application/x-www-form-urlencoded",
		Secrets: header.Values("Signature"),
	})
	if fault != nil {
		return providers.Receipt{}, fault
	}
	envelope, accepted := read(answer)
	if accepted {
		return providers.Receipt{Code: envelope.Code}, nil
	}
	return providers.Receipt{}, c.fault(answer, envelope)
}

func (c *Client) fault(answer *rest.Answer, envelope rest.Envelope) *providers.Fault {
	if envelope.Message == "" {
		envelope.Message = c.codes[envelope.Code].meaning
	}
	return answer.Fault(envelope, c.classify(answer.Status, envelope.Code))
}

// header signs the call. The timestamp is in milliseconds, as the documents have it; RongCloud's own Go SDK sends seconds.
func (c *Client) header(req providers.Request, now time.Time) http.Header {
	nonce := strconv.FormatInt(rand.Int64N(maxNonce), 10)
	timestamp := strconv.FormatInt(now.UnixMilli(), 10)
	h := http.Header{}
	h.Set("App-Key", c.config.AppKey)
	h.Set("Nonce", nonce)
	h.Set("Timestamp", timestamp)
	h.Set("Signature", signature(c.config.AppSecret, nonce, timestamp))
	if id := requestID(req.CorrelationID); id != "" {
		h.Set("X-Request-ID", id)
	}
	return h
}

func signature(secret, nonce, timestamp string) string {
	sum := sha1.Sum([]byte(secret + nonce + timestamp)) //nolint:gosec // See the import.
	return hex.EncodeToString(sum[:])
}

// requestID keeps the end of an id that is too long, which is what tells one task from another.
func requestID(correlation string) string {
	if over := len(correlation) - maxRequestID; over > 0 {
		return correlation[over:]
	}
	return correlation
}

// form is the body. RongCloud's pages differ on whether sentTime is required, so it is sent whenever it is known, if need be
// from the messageUID itself, and never as 0.
func (c *Client) form(req providers.Request, now time.Time) url.Values {
	form := url.Values{"fromUserId": {req.From}, "messageUID": {req.MessageID}}
	sentAt := req.SentAt
	if sentAt.IsZero() {
		sentAt, _ = c.spec.SentAt(req.MessageID, now)
	}
	if !sentAt.IsZero() {
		form.Set("sentTime", strconv.FormatInt(sentAt.UnixMilli(), 10))
	}
	if req.IsAdmin {
		form.Set("isAdmin", "1")
	}
	if req.IsDelete {
		form.Set("isDelete", "1")
	}
	if req.Extra != "" {
		form.Set("extra", req.Extra)
	}
	if req.DisableUpdateLastMsg {
		form.Set("disableUpdateLastMsg", "true")
	}
	return form
}

// read reads the envelope. Some refusals come with HTTP 200, and an error page may bring a code of its own: only 200 twice is a
// success. A 200 inside another status says nothing.
func read(answer *rest.Answer) (envelope rest.Envelope, accepted bool) {
	members, ok := answer.Object()
	if !ok {
		return rest.Envelope{}, false
	}
	envelope = rest.Envelope{Code: rest.Code(members["code"]), Message: rest.String(members["errorMessage"])}
	if envelope.Code != codeAccepted {
		return envelope, false
	}
	if answer.Status == http.StatusOK {
		return envelope, true
	}
	envelope.Code = ""
	return envelope, false
}

// classify returns what RongCloud's documents say about a code, or about an HTTP status of its own.
func (c *Client) classify(status int, code string) *rest.Class {
	if code == codeInternal && status < http.StatusInternalServerError {
		return &rest.Class{Kind: providers.Invalid}
	}
	if known, ok := c.codes[code]; ok {
		return &rest.Class{Kind: known.kind}
	}
	if status == statusNotEnabled {
		return &rest.Class{Kind: providers.Credentials}
	}
	return nil
}

func codeTable() map[string]code {
	table := map[string]code{}
	for _, c := range codes() {
		table[strconv.Itoa(c.number)] = c
	}
	return table
}
