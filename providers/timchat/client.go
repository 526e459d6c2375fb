// Package timchat takes one-to-one messages of Tencent Chat back: POST v4/openim/admin_msgwithdraw, as seed 003 describes it.
//
// A recall is of one message between two accounts, so that a message to many needs one for each recipient. Tencent documents no
// window: messages sent at any time can be taken back, and for good (https://trtc.io/document/35015).
package timchat

import (
	"context"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/tencent"
)

const path = "/v4/openim/admin_msgwithdraw"

// Client takes back the messages of one SDKAppID. It is safe for concurrent use.
type Client struct {
	gateway *tencent.Gateway
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
	return &Client{gateway: gateway}, nil
}

// Close releases idle connections. Calls in flight are not disturbed.
func (c *Client) Close() { c.gateway.Close() }

// body names the message. From_Account is its original sender: the two accounts do not commute.
type body struct {
	From   string `json:"From_Account"`
	To     string `json:"To_Account"`
	MsgKey string `json:"MsgKey"`
}

// Recall implements [providers.Provider]. A fault with code 70001 or 70052 has Renewed set if a call made now would be signed
// with a newer UserSig.
func (c *Client) Recall(ctx context.Context, req providers.Request) (providers.Receipt, error) {
	return c.gateway.Call(ctx, path, body{From: req.From, To: req.To, MsgKey: req.MessageID})
}
