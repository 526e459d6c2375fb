package tencent

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Gateway calls one account's REST APIs. It is safe for concurrent use.
type Gateway struct {
	account Account
	rest    *rest.Client
	signer  *Signer
	codes   codeTable
}

// NewGateway returns a Gateway for an account that has passed [Account.Check]. own are the codes of the API that it will
// call; they go before the common ones. The error is a [*providers.FieldError] for base_url.
func NewGateway(account Account, own []Code, opt providers.Options) (*Gateway, error) {
	base := opt.BaseURL
	if base == "" {
		base = account.BaseURL()
	}
	now := opt.Now
	if now == nil {
		now = time.Now
	}
	client, err := rest.New(rest.Options{
		BaseURL: base, Timeout: opt.Timeout, MaxConns: opt.MaxConns, Now: now,
		Secrets: []string{account.SecretKey},
	})
	if err != nil {
		return nil, err
	}
	return &Gateway{account: account, rest: client, signer: NewSigner(account, now), codes: newCodeTable(own)}, nil
}

// Close releases idle connections.
func (g *Gateway) Close() { g.rest.Close() }

// Call makes one request of an API: path is like "/v4/timpush/revoke", and body is marshalled as JSON. Its errors are
// [*providers.Fault]s, and hold neither the query, in which the UserSig travels, nor the secret key.
func (g *Gateway) Call(ctx context.Context, path string, body any) (providers.Receipt, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return providers.Receipt{}, &providers.Fault{Kind: providers.Invalid, Message: "the recall cannot be written as JSON"}
	}
	sig := g.signer.Sig()
	answer, fault := g.rest.Do(ctx, rest.Call{
		Method: http.MethodPost, Path: path, Query: g.query(sig),
		Body: text, ContentType: "application/json", Secrets: []string{sig.text},
	})
	if fault != nil {
		return providers.Receipt{}, fault
	}
	envelope, accepted := read(answer)
	if accepted {
		return providers.Receipt{Code: envelope.Code, RequestID: answer.Text(envelope.RequestID)}, nil
	}
	return providers.Receipt{}, g.fault(answer, envelope, sig)
}

// query is what every request carries (https://www.tencentcloud.com/document/product/1047/34620). Names and values are
// case-sensitive.
func (g *Gateway) query(sig Sig) url.Values {
	return url.Values{
		"sdkappid":    {g.account.ID()},
		"identifier":  {g.account.identifier()},
		"usersig":     {sig.text},
		"random":      {strconv.FormatUint(uint64(rand.Uint32()), 10)},
		"contenttype": {"json"},
	}
}

// read reads the envelope. Tencent answers HTTP 200 to nearly everything, so only ActionStatus OK together with ErrorCode 0
// is a success. What claims to be one but is not, such as "FAIL" with 0, has no code that says anything.
func read(answer *rest.Answer) (envelope rest.Envelope, accepted bool) {
	members, ok := answer.Object()
	if !ok {
		return rest.Envelope{}, false
	}
	envelope = rest.Envelope{
		Code:      rest.Code(members["ErrorCode"]),
		Message:   rest.String(members["ErrorInfo"]),
		RequestID: rest.String(members["RequestId"]),
	}
	if envelope.Code != "0" {
		return envelope, false
	}
	if rest.String(members["ActionStatus"]) == "OK" && answer.Status >= 200 && answer.Status < 300 {
		return envelope, true
	}
	envelope.Code = ""
	return envelope, false
}

func (g *Gateway) fault(answer *rest.Answer, envelope rest.Envelope, sig Sig) error {
	if envelope.Message == "" {
		envelope.Message = g.codes.single[envelope.Code].Meaning
	}
	f := answer.Fault(envelope, g.classify(answer.Status, envelope.Code))
	if envelope.Code == codeExpired || envelope.Code == codeVoid {
		g.signer.Refused(sig)
		f.Renewed = true
	}
	return f
}

// classify returns what the table says about a code. A range is our guess, so that an HTTP status that says something
// itself goes before it.
func (g *Gateway) classify(status int, code string) *rest.Class {
	if known, ok := g.codes.single[code]; ok {
		return &rest.Class{Kind: known.Kind, WholeAccount: code == codeAllAPIs}
	}
	if rest.ByStatus(status, true) != providers.Invalid {
		return nil
	}
	if kind, ok := g.codes.guess(code); ok {
		return &rest.Class{Kind: kind}
	}
	return nil
}
