// Package timpush takes pushes of Tencent's TIMPush back: POST v4/timpush/revoke, as seed 002 describes it.
//
// One TaskId covers all recipients of a push. Tencent takes a push back for 24 hours after its task was started
// (https://cloud.tencent.com/document/product/269/105123), and grants an SDKAppID one call a second.
package timpush

import (
	"context"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/tencent"
)

const path = "/v4/timpush/revoke"

// Client takes back the pushes of one SDKAppID. It is safe for concurrent use.
type Client struct {
	gateway  *tencent.Gateway
	defaults offlinePush
}

var _ providers.Provider = (*Client)(nil)

// New returns a client. Its errors are the [*providers.FieldError]s of [Config.Check], or one for base_url.
func New(c Config, opt providers.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	gateway, err := tencent.NewGateway(c.account(), codes(), opt)
	if err != nil {
		return nil, err
	}
	return &Client{gateway: gateway, defaults: offlinePush{Title: c.OfflinePushTitle, Desc: c.OfflinePushDesc}}, nil
}

// Close releases idle connections. Calls in flight are not disturbed.
func (c *Client) Close() { c.gateway.Close() }

type revoke struct {
	TaskID      string       `json:"TaskId"`
	OfflinePush *offlinePush `json:"OfflinePushInfo,omitempty"`
}

// offlinePush replaces the text of a push that lies in a device's notification bar. PushFlag is left out, as in the seed's
// example: with 1 nothing would be replaced.
type offlinePush struct {
	Title string `json:"Title,omitempty"`
	Desc  string `json:"Desc,omitempty"`
}

// Recall implements [providers.Provider]. A fault with code 70001 or 70052 has Renewed set if a call made now would be signed
// with a newer UserSig.
func (c *Client) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	return c.gateway.Call(ctx, path, c.body(req))
}

func (c *Client) body(req providers.Request) revoke {
	return revoke{TaskID: req.MessageID, OfflinePush: c.offlinePush(req)}
}

// offlinePush returns the request's text, or the app's if the request has neither title nor description, or nil. A request's
// title is never mixed with the app's description: they would be about different things.
func (c *Client) offlinePush(req providers.Request) *offlinePush {
	text := offlinePush{Title: req.OfflinePushTitle, Desc: req.OfflinePushDesc}
	if text == (offlinePush{}) {
		text = c.defaults
	}
	if text == (offlinePush{}) {
		return nil
	}
	return &text
}
