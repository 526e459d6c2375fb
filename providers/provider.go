package providers

import (
	"context"
	"time"
)

// Provider is one account at one vendor, ready to be called.
//
// Implementations are safe for concurrent use.
type Provider interface {
	// Recall asks the vendor to take one message back, with exactly one HTTP request.
	//
	// A nil error means that the vendor accepted the recall. Any other answer, and no answer, is a [*Fault]; Recall
	// returns no other type of error. Recall returns within 100 ms of ctx being done.
	//
	// Neither the Receipt nor the error contains a credential, a URL's query or an unbounded part of an answer.
	Recall(ctx context.Context, req Request) (Receipt, error)

	// Close releases idle connections. Calls in flight are not disturbed.
	Close()
}

// Request is one message to take back. Which fields a provider uses is in its [Spec]; the others are empty.
type Request struct {
	MessageID string    // the vendor's id of the message, unescaped
	SentAt    time.Time // when the message was sent; zero if unknown
	From      string    // timchat: From_Account; rongcloud: fromUserId
	To        string    // timchat: To_Account

	OfflinePushTitle string // timpush: OfflinePushInfo.Title
	OfflinePushDesc  string // timpush: OfflinePushInfo.Desc

	IsAdmin              bool   // rongcloud
	IsDelete             bool   // rongcloud
	DisableUpdateLastMsg bool   // rongcloud
	Extra                string // rongcloud

	// CorrelationID is passed on where the vendor has a header for it (rongcloud: X-Request-ID, at most 36 bytes).
	CorrelationID string
}

// Receipt is what a vendor said when it accepted a recall.
type Receipt struct {
	Code      string // the vendor's success code: "0", "200"; empty where the vendor has none (engagelab)
	RequestID string // the vendor's id of this call, for its support; empty if it gave none
}

// Options are what every provider's constructor takes beside the credentials.
type Options struct {
	// BaseURL replaces the vendor's own host: scheme and host, optionally a path prefix. Empty means the vendor's.
	BaseURL string
	// Timeout bounds one call, from dialling to the last byte of the answer. Zero means [DefaultTimeout].
	Timeout time.Duration
	// MaxConns bounds the connections to the vendor. Zero means no bound.
	MaxConns int
	// Now is the clock that signs requests; nil means time.Now.
	Now func() time.Time
}

// DefaultTimeout bounds one call unless the app's configuration says otherwise.
const DefaultTimeout = 10 * time.Second

// FieldError says which configuration key of a provider is wrong, and why. Providers' Config.Check methods return them,
// joined by errors.Join, so that every fault of a file can be reported at once with its place.
type FieldError struct {
	Field  string // the key as it stands in the file, for example "sdk_app_id"
	Reason string // what is wrong and what to do, in lower case; never the value of a secret
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }
