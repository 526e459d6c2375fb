package tencent

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// sigValidity is how long a UserSig is good for. Tencent advises not less than 24 hours
	// (https://cloud.tencent.com/document/product/679/131708); it is renewed at half of this, so that one in use always has
	// those 24 hours left, whatever the two clocks differ by.
	sigValidity = 48 * time.Hour
	sigRenewal  = sigValidity / 2
)

// Sig is a UserSig: a credential that anyone can use until it expires. It must never get into an error or a log.
type Sig struct {
	text   string
	minted time.Time // without its monotonic part, since that stands still while a machine sleeps
}

// Signer makes an account's UserSigs and keeps the last one. It is safe for concurrent use; goroutines that need a new
// one at the same time get the same one.
type Signer struct {
	account Account
	now     func() time.Time

	mu      sync.Mutex
	kept    Sig
	refused string // the last one that Tencent refused for its age
}

// String keeps a Sig that is printed by mistake out of what people read.
func (Sig) String() string { return "[redacted]" }

// NewSigner returns a Signer by the clock now, which must not be nil.
func NewSigner(account Account, now func() time.Time) *Signer {
	return &Signer{account: account, now: now}
}

// Sig returns a UserSig that is good for 24 hours at least.
func (s *Signer) Sig() Sig {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The clock is read under the lock, so that no goroutine sees a UserSig from its future and makes another.
	now := s.now()
	if s.kept.text != "" {
		// A negative age is a clock that was set back: what was signed by the wrong time is not to be trusted.
		if age := now.Sub(s.kept.minted); age >= 0 && age < sigRenewal {
			return s.kept
		}
	}
	text := userSig(s.account, now, sigValidity)
	if text == s.refused {
		text = userSig(s.account, now, sigValidity+time.Second)
	}
	s.kept = Sig{text: text, minted: now.Round(0)}
	return s.kept
}

// Refused tells the Signer that Tencent refused used for its age. The Signer forgets it, unless another call's refusal has
// had it replaced already; the next one differs from it, also within the same second.
func (s *Signer) Refused(used Sig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = used.text
	if s.kept.text == used.text {
		s.kept = Sig{}
	}
}

// sigAlphabet turns base64 into Tencent's own form of it, which needs no escaping in a URL.
var sigAlphabet = strings.NewReplacer("+", "*", "/", "-", "=", "_")

// userSig makes a version 2 UserSig as github.com/tencentyun/tls-sig-api-v2-golang v1.4.0 does: a JSON object, compressed,
// in a base64 of its own. Only the compression level differs, which the verifier does not mind.
func userSig(a Account, now time.Time, validity time.Duration) string {
	seconds := int64(validity / time.Second)
	ticket := struct {
		Version    string `json:"TLS.ver"`
		Identifier string `json:"TLS.identifier"`
		SDKAppID   int64  `json:"TLS.sdkappid"`
		Expire     int64  `json:"TLS.expire"`
		Time       int64  `json:"TLS.time"`
		Sig        string `json:"TLS.sig"`
	}{"2.0", a.identifier(), a.SDKAppID, seconds, now.Unix(), signature(a, now.Unix(), seconds)}

	// Strings and numbers always marshal, and a buffer takes every write.
	text, _ := json.Marshal(ticket)
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(text)
	_ = w.Close()
	return sigAlphabet.Replace(base64.StdEncoding.EncodeToString(packed.Bytes()))
}

// signature returns TLS.sig. The key is the console's hexadecimal text itself, not the bytes that it spells.
func signature(a Account, unix, validity int64) string {
	mac := hmac.New(sha256.New, []byte(a.SecretKey))
	fmt.Fprintf(mac, "TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n", a.identifier(), a.SDKAppID, unix, validity)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
