// Package tencenttest is what the tests of Tencent's two APIs share: Tencent's side of a call, written from its documents and
// apart from package tencent, which it does not import.
package tencenttest

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest"
)

// The account of the seeds' examples, with the sample key in the README of Tencent's own library.
const (
	SDKAppID   = 88888888
	Identifier = "admin"
	SecretKey  = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
)

// Success is the answer that accepts a recall.
func Success(requestID string) string {
	return fmt.Sprintf(`{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"RequestId":%s}`, quote(requestID))
}

// Error is an answer that refuses a recall. code is a JSON literal.
func Error(code, message, requestID string) string {
	return fmt.Sprintf(`{"ActionStatus":"FAIL","ErrorInfo":%s,"ErrorCode":%s,"RequestId":%s}`, quote(message), code, quote(requestID))
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Ticket is what a version 2 UserSig holds.
type Ticket struct {
	Version    string `json:"TLS.ver"`
	Identifier string `json:"TLS.identifier"`
	SDKAppID   int64  `json:"TLS.sdkappid"`
	Expire     int64  `json:"TLS.expire"` // seconds
	Time       int64  `json:"TLS.time"`   // Unix seconds
	Sig        string `json:"TLS.sig"`
}

// Open reads a UserSig as VerifyUserSig of github.com/tencentyun/tls-sig-api-v2-golang does.
func Open(sig string) (Ticket, error) {
	var ticket Ticket
	packed, err := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_", "=").Replace(sig))
	if err != nil {
		return ticket, err
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return ticket, err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return ticket, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return ticket, d.Decode(&ticket)
}

// Authentic checks a request's query as Tencent would: the UserSig, the account, the random number and the content type.
func Authentic(r *http.Request, _ []byte, now time.Time) error {
	q := r.URL.Query()
	if len(q) != 5 {
		return fmt.Errorf("%d parameters in the query, want 5", len(q))
	}
	if got := q.Get("contenttype"); got != "json" {
		return fmt.Errorf("contenttype=%s", got)
	}
	if _, err := strconv.ParseUint(q.Get("random"), 10, 32); err != nil {
		return fmt.Errorf("random is no 32-bit unsigned integer: %w", err)
	}
	if got := q.Get("sdkappid"); got != strconv.Itoa(SDKAppID) {
		return fmt.Errorf("sdkappid=%s", got)
	}
	if got := q.Get("identifier"); got != Identifier {
		return fmt.Errorf("identifier=%s", got)
	}
	return verify(q.Get("usersig"), now)
}

func verify(sig string, now time.Time) error {
	ticket, err := Open(sig)
	if err != nil {
		return fmt.Errorf("70003: %w", err)
	}
	switch {
	case ticket.Version != "2.0":
		return fmt.Errorf("70003: version %s", ticket.Version)
	case ticket.Identifier != Identifier:
		return fmt.Errorf("70013: identifier %s", ticket.Identifier)
	case ticket.SDKAppID != SDKAppID:
		return fmt.Errorf("70014: SDKAppID %d", ticket.SDKAppID)
	case now.Unix() > ticket.Time+ticket.Expire:
		return errors.New("70001: expired")
	case now.Unix() < ticket.Time:
		return errors.New("signed in the future")
	case ticket.Expire < 24*60*60:
		return errors.New("good for less than the advised 24 hours")
	}
	mac := hmac.New(sha256.New, []byte(SecretKey))
	content := "TLS.identifier:" + Identifier + "\n" +
		"TLS.sdkappid:" + strconv.Itoa(SDKAppID) + "\n" +
		"TLS.time:" + strconv.FormatInt(ticket.Time, 10) + "\n" +
		"TLS.expire:" + strconv.FormatInt(ticket.Expire, 10) + "\n"
	if _, err := io.WriteString(mac, content); err != nil {
		return err
	}
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); want != ticket.Sig {
		return errors.New("70005: wrong signature")
	}
	return nil
}

// CommonCodes are the codes that both APIs share, by what they mean for a recall.
func CommonCodes() []providertest.Code {
	codes := Codes(map[providers.Kind][]int{
		providers.Unavailable:   {60008, 60013, 60014, 70169, 70202, 70500},
		providers.Throttled:     {60007, 60018, 60019},
		providers.Misconfigured: {60002, 60009, 60012},
		providers.Credentials: {60004, 60005, 60006, 60010, 60016, 60017, 60020, 60021, 70001, 70002, 70003, 70005, 70009, 70013,
			70014, 70016, 70020, 70050, 70051, 70052, 70101, 70346, 70403},
		providers.Invalid: {60003, 60015, 70107, 70114, 70206, 70398, 70402, 72001, 80001, 80002},
	})
	return append(codes, providertest.Code{Code: "60011", Kind: providers.Throttled, WholeAccount: true})
}

// Codes turns a table by kinds into one by codes.
func Codes(kinds map[providers.Kind][]int) []providertest.Code {
	var codes []providertest.Code
	for kind, numbers := range kinds {
		for _, n := range numbers {
			codes = append(codes, providertest.Code{Code: strconv.Itoa(n), Kind: kind})
		}
	}
	return codes
}
