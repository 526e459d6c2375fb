package providers

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind says what a call ran into, as a fact. What is done about it is package retry's business.
//
// The set is closed, and its words are for ever: they are values of the metric recallq_calls_total.
type Kind string

// The kinds of fault.
const (
	AlreadyRecalled Kind = "already_recalled" // the vendor says that the message had been taken back before
	Unavailable     Kind = "unavailable"      // no usable answer: 5xx, time-outs, resets, garbage, the vendor's "internal error"
	Throttled       Kind = "throttled"        // too many calls; the whole account must wait
	Credentials     Kind = "credentials"      // the account, its secret, its permissions, its package or our address is refused
	Misconfigured   Kind = "misconfigured"    // the answer is not the vendor's, or it does not know the URL
	WindowClosed    Kind = "window_closed"    // the vendor says that its recall window has passed
	NotFound        Kind = "not_found"        // the vendor does not know the message
	Invalid         Kind = "invalid"          // the vendor refuses this very recall
)

// Kinds returns every kind, in the order of the contract's table.
func Kinds() []Kind {
	return []Kind{AlreadyRecalled, Unavailable, Throttled, Credentials, Misconfigured, WindowClosed, NotFound, Invalid}
}

// MaxMessage is the length in bytes that a Fault's message is cut to.
const MaxMessage = 200

// Fault is the only error a [Provider] returns.
type Fault struct {
	Kind Kind
	// Code is the vendor's code, else "HTTP 503" when only a status was had, else empty.
	Code string
	// Message is one printable line of at most [MaxMessage] bytes: the vendor's words, or what happened on the way.
	Message string
	// RequestID is the vendor's id of this call, if it gave one.
	RequestID string
	// RetryAfter is how long the vendor asked to be left alone; zero if it did not say.
	RetryAfter time.Duration
	// MaybeDone is true when the vendor may have carried the recall out all the same: the request may have reached it, and
	// the answer is lost or is no answer to it. It is false when the vendor refused, and when nothing was sent.
	MaybeDone bool
	// Ambiguous is true for an answer that a vendor gives alike for an unknown, an expired and an already recalled message
	// (EngageLab's 21003): only our own record tells them apart. Kind is then [NotFound].
	Ambiguous bool
	// Renewed is true when the provider has dropped the expiring token that it had derived from the credentials (Tencent's
	// UserSig), so that another call made now is signed afresh. Whether that is worth it is the policy's business.
	Renewed bool
	// WholeAccount is true when a throttled answer is about all APIs of the account, not this one (Tencent's 60011).
	WholeAccount bool
	// Err is the cause on the way to the vendor, if there is one, stripped of its URL.
	Err error
}

// Error says the fault in one line: kind, code and message.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	if f.Code != "" {
		b.WriteString(" (" + f.Code + ")")
	}
	if f.Message != "" {
		b.WriteString(": " + f.Message)
	}
	return b.String()
}

// Unwrap returns the cause on the way to the vendor, such as context.DeadlineExceeded.
func (f *Fault) Unwrap() error { return f.Err }

// AsFault returns the Fault in err. An error that is none, which a conforming provider never returns, comes back as
// [Unavailable], because nothing is known of it; its text is not kept, because it may hold a URL.
func AsFault(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) && f != nil {
		return f
	}
	return &Fault{Kind: Unavailable, Message: "the provider returned an error that is no fault", MaybeDone: true}
}

// Line makes text fit for a [Fault.Message], a log line or an error: one line of printable characters, at most limit bytes,
// cut at a character's border with "…" where something was left out. Where the limit has no room for that, it is empty.
func Line(text string, limit int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))), " ")
	if len(text) <= limit {
		return text
	}
	const mark = "…"
	cut := limit - len(mark)
	if cut < 0 {
		return ""
	}
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}
