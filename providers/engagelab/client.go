// Package engagelab takes messages back through EngageLab AppPush: DELETE /v4/push/withdraw/{msg_id} (seed 001, "Message
// Recall API").
//
// Any 2xx means that EngageLab has accepted the recall. It has one code, 21003, for a message that is unknown, too old or
// recalled before; such a fault is marked as ambiguous.
package engagelab

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Client is an app at EngageLab. It is safe for concurrent use.
type Client struct {
	http   *rest.Client
	header http.Header
}

var _ providers.Provider = (*Client)(nil)

// New returns a client for the app. The error is that of [Config.Check], or a [*providers.FieldError] for base_url.
func New(c Config, opt providers.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	base := opt.BaseURL
	if base == "" {
		base = c.BaseURL()
	}
	// Basic base64(AppKey:MasterSecret):
	// https://www.engagelab.com/zh_CN/docs/app-push/developer-guide/rest-api/rest-api-overview
	basic := rest.Basic(c.AppKey, c.MasterSecret)
	client, err := rest.New(rest.Options{
		BaseURL: base, Timeout: opt.Timeout, MaxConns: opt.MaxConns, Now: opt.Now,
		Secrets: append(c.Secrets(), basic),
	})
	if err != nil {
		return nil, err
	}
	header := http.Header{"Authorization": {"Basic " + basic}, "Accept": {"application/json"}}
	return &Client{http: client, header: header}, nil
}

// Recall asks EngageLab to take a message back. See [providers.Provider].
func (c *Client) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	segment, ok := rest.Segment(req.MessageID)
	if !ok {
		return providers.Receipt{}, rest.NoSegment(req.MessageID)
	}
	answer, fault := c.http.Do(ctx, rest.Call{
		Method: http.MethodDelete, Path: "/v4/push/withdraw/" + segment, Header: c.header,
	})
	if fault != nil {
		return providers.Receipt{}, fault
	}
	body, isObject := answer.Object()
	requestID := rest.String(body["request_id"])
	// The vendor's own SDK takes a 2xx without a body for a success (github.com/engagelab-mt/engagelab-apppush-go, push.go).
	wellFormed := isObject || len(bytes.TrimSpace(answer.Body)) == 0
	if answer.Status >= 200 && answer.Status < 300 && wellFormed && !refuses(body["error"]) {
		return providers.Receipt{RequestID: answer.Text(requestID)}, nil
	}
	// Failure: {"error":{"code":…,"message":…}} (seed 001).
	refusal, _ := rest.Object(body["error"])
	code := rest.Code(refusal["code"])
	return providers.Receipt{}, answer.Fault(
		rest.Envelope{Code: code, Message: rest.String(refusal["message"]), RequestID: requestID}, codes.Find(code))
}

// refuses reports whether an answer has an error, whatever is in it.
func refuses(member json.RawMessage) bool { return len(member) > 0 && string(member) != "null" }

// Close releases idle connections.
func (c *Client) Close() { c.http.Close() }
