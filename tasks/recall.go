package tasks

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/recallq/recallq/providers"
)

// Version is the version of the payload that this package writes.
const Version = 1

// Recall is one message to take back: the payload of one task.
//
// A push system fills Provider, MessageID, App unless the provider has only one, SentAt unless the id carries it, and the
// fields that the provider uses (providers.Spec says which). The rest is the Producer's and the batch's.
type Recall struct {
	V         int    // the version of the payload that it was read from; what is written is always of [Version]
	Provider  string // "jiguang", "engagelab", "timpush", "timchat", "rongcloud"
	App       string // the account at the provider; may be left empty where the provider has only one
	MessageID string // the vendor's id of the message, at most 256 printable bytes

	// SentAt is when the message was sent, to the millisecond. Zero means: read it from the id.
	SentAt time.Time

	From             string // timchat: From_Account; rongcloud: fromUserId
	To               string // timchat: To_Account
	OfflinePushTitle string // timpush
	OfflinePushDesc  string // timpush

	IsAdmin              bool   // rongcloud
	IsDelete             bool   // rongcloud
	DisableUpdateLastMsg bool   // rongcloud
	Extra                string // rongcloud

	// Ref is the caller's own reference, at most 256 bytes. It is returned with the outcome and is no part of the identity.
	Ref string

	EnqueuedAt time.Time // set by the Producer
	RecallBy   time.Time // when the window closes; set by [Resolve] and the Producer

	Batch string // the batch it belongs to, if any
	Seq   int64  // its number in the batch, unique there
}

// ID returns the task id: the provider, "_" and 32 hex digits of a hash of what makes a recall the same recall, which is
// provider, app, message id, for timchat also from and to, for rongcloud also from. App must be filled in.
func (r Recall) ID() string {
	var fixed [512]byte
	b := fixed[:0]
	b = appendPart(b, r.Provider)
	b = appendPart(b, r.App)
	b = appendPart(b, r.MessageID)
	if spec, ok := lookup(r.Provider); ok {
		for _, f := range spec.Identity {
			b = appendPart(b, r.text(f))
		}
	}
	sum := sha256.Sum256(b)
	id := append(fixed[:0], r.Provider...)
	id = append(id, '_')
	return string(hex.AppendEncode(id, sum[:16]))
}

// appendPart puts the length in front, so that no two lists of parts run together to the same bytes.
func appendPart(b []byte, part string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}

// text returns one of the fields that only some providers use, empty if it is a flag.
func (r Recall) text(f providers.Field) string {
	switch f {
	case providers.From:
		return r.From
	case providers.To:
		return r.To
	case providers.OfflinePushTitle:
		return r.OfflinePushTitle
	case providers.OfflinePushDesc:
		return r.OfflinePushDesc
	case providers.Extra:
		return r.Extra
	}
	return ""
}

// flag returns one of the flags that only some providers use.
func (r Recall) flag(f providers.Field) bool {
	switch f {
	case providers.IsAdmin:
		return r.IsAdmin
	case providers.IsDelete:
		return r.IsDelete
	case providers.DisableUpdateLastMsg:
		return r.DisableUpdateLastMsg
	}
	return false
}

// Request returns what the provider is called with. Its CorrelationID is the 32 hex digits of the task id.
func (r Recall) Request() providers.Request {
	return providers.Request{
		MessageID:            r.MessageID,
		SentAt:               r.SentAt,
		From:                 r.From,
		To:                   r.To,
		OfflinePushTitle:     r.OfflinePushTitle,
		OfflinePushDesc:      r.OfflinePushDesc,
		IsAdmin:              r.IsAdmin,
		IsDelete:             r.IsDelete,
		DisableUpdateLastMsg: r.DisableUpdateLastMsg,
		Extra:                r.Extra,
		CorrelationID:        r.ID()[len(r.Provider)+1:],
	}
}
