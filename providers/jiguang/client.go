// Package jiguang takes messages back through Jiguang UMS: POST /v1/retract/{msgid} (seed 000, "Message withdrawn. v1").
//
// HTTP 2xx with code 0 means that UMS has accepted the recall: what it has not sent yet it holds back, and it asks the
// channels for the rest. What a device shows is told by a callback, not by this API.
package jiguang

import (
	"context"
	"net/http"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Client is a channel at Jiguang UMS. It is safe for concurrent use.
type Client struct {
	http   *rest.Client
	header http.Header
}

var _ providers.Provider = (*Client)(nil)

// New returns a client for the channel. The error is that of [Config.Check], or a [*providers.FieldError] for base_url.
func New(c Config, opt providers.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	base := opt.BaseURL
	if base == "" {
		base = c.BaseURL()
	}
	// Basic base64(ChannelKey:MasterSecret): seed 000, "Call Authentication".
	basic := rest.Basic(c.ChannelKey, c.MasterSecret)
	client, err := rest.New(rest.Options{
		BaseURL: base, Timeout: opt.Timeout, MaxConns: opt.MaxConns, Now: opt.Now,
		Secrets: append(c.Secrets(), basic),
	})
	if err != nil {
		return nil, err
	}
	return &Client{http: client, header: http.Header{"Authorization": {"Basic " + basic}}}, nil
}

// Recall asks UMS to take a message back. See [providers.Provider].
func (c *Client) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	// The vendor's own example has the colons of the msgid unescaped (seed 000).
	segment, ok := rest.Segment(req.MessageID)
	if !ok {
		return providers.Receipt{}, rest.NoSegment(req.MessageID)
	}
	answer, fault := c.http.Do(ctx, rest.Call{Method: http.MethodPost, Path: "/v1/retract/" + segment, Header: c.header})
	if fault != nil {
		return providers.Receipt{}, fault
	}
	body, _ := answer.Object()
	code := rest.Code(body["code"])
	// The seed knows 200 only, the vendor's documents call every 200 a success, and the one SDK takes any 2xx with code 0
	// (github.com/cavlabs/jiguang-sdk-go, api/jums/v1_retract.go).
	if answer.Status/100 == 2 && code == success {
		return providers.Receipt{Code: code}, nil
	}
	return providers.Receipt{}, answer.Fault(rest.Envelope{Code: code, Message: rest.String(body["message"])}, codes.Find(code))
}

// Close releases idle connections.
func (c *Client) Close() { c.http.Close() }
