package rongcloud

import (
	"crypto/sha1" //nolint:gosec // RongCloud's signature is SHA-1 by its documents.
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config has the App Key of seed 004 and the secret that an old copy of RongCloud's example shows next to it.
func config() Config { return Config{AppKey: "uwd1c0sxdlx2", AppSecret: "Y1W2MeFwwwRxa0"} }

// request is the one of seed 004.
func request() providers.Request {
	return providers.Request{
		MessageID: "5FGT-7VA9-G4DD-4V5P",
		From:      "fDR2cVpxxR5zSMUNh3yAwh",
		SentAt:    time.UnixMilli(1507778882124),
	}
}

func with(change func(*providers.Request)) providers.Request {
	req := request()
	change(&req)
	return req
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		Name:    providers.RongCloud,
		New:     func(opt providers.Options) (providers.Provider, error) { return New(config(), opt) },
		BaseURL: config().BaseURL(),
		Secrets: config().Secrets(),
		Request: request(),
		Success: func(string) string { return `{"code":200}` },
		Code:    "200",
		Error: func(code, message, _ string) string {
			text, err := json.Marshal(message)
			if err != nil {
				panic(err)
			}
			return fmt.Sprintf(`{"code":%s,"errorMessage":%s}`, code, text)
		},
		Codes:        documented(),
		Known:        known(),
		Undocumented: "3999",
		ID: func(_ *http.Request, text []byte) (string, error) {
			form, err := url.ParseQuery(string(text))
			return form.Get("messageUID"), err
		},
		Authentic: authentic,
		Wire: []providertest.Wire{
			{File: "testdata/success.wire", Request: request(), Code: "200"},
			{File: "testdata/no-time.wire", Request: with(func(r *providers.Request) { r.SentAt = time.Time{} }), Code: "200"},
			{File: "testdata/id-time.wire", Code: "200", Request: with(func(r *providers.Request) {
				r.MessageID, r.SentAt = "BC52-ESJ0-022O-001H", time.Time{}
			})},
			{File: "testdata/all.wire", Code: "200", Request: with(func(r *providers.Request) {
				r.IsAdmin, r.IsDelete, r.DisableUpdateLastMsg, r.Extra = true, true, true, "a=1&2 ✓"
				r.CorrelationID = "rongcloud_0123456789abcdef0123456789abcdef"
			})},
			{File: "testdata/refused-under-200.wire", Request: request(), Kind: providers.Invalid, Code: "1015"},
			{File: "testdata/signature.wire", Request: request(), Kind: providers.Credentials, Code: "1004", Message: "signature error"},
		},
		Cannot: []providertest.Capability{
			providertest.NoAlreadyRecalled, providertest.NoNotFound, providertest.NoWindowClosed,
			providertest.NoReceiptID, providertest.NoFaultID,
		},
	})
}

func documented() []providertest.Code {
	return []providertest.Code{
		{Code: "400", Status: 400, Kind: providers.Invalid},
		{Code: "404", Status: 404, Kind: providers.Misconfigured},
		{Code: "1000", Status: 500, Kind: providers.Unavailable, StatusMatters: true},
		{Code: "1001", Status: 401, Kind: providers.Credentials},
		{Code: "1002", Status: 400, Kind: providers.Invalid},
		{Code: "1003", Status: 400, Kind: providers.Invalid},
		{Code: "1004", Status: 401, Kind: providers.Credentials},
		{Code: "1005", Status: 400, Kind: providers.Invalid},
		{Code: "1006", Status: 401, Kind: providers.Credentials},
		{Code: "1007", Status: 401, Kind: providers.Credentials},
		{Code: "1008", Status: 429, Kind: providers.Throttled},
		{Code: "1009", Status: 430, Kind: providers.Credentials},
		{Code: "1010", Status: 403, Kind: providers.Credentials},
		{Code: "1011", Status: 403, Kind: providers.Credentials},
		{Code: "1015", Status: 200, Kind: providers.Invalid},
		{Code: "1016", Status: 403, Kind: providers.Invalid},
		{Code: "1018", Status: 403, Kind: providers.Credentials},
		{Code: "1050", Status: 504, Kind: providers.Unavailable},
		{Code: "2007", Status: 403, Kind: providers.Credentials},
	}
}

func known() []string {
	var numbers []string
	for _, c := range codes() {
		numbers = append(numbers, strconv.Itoa(c.number))
	}
	return numbers
}

// authentic checks a request's headers as https://docs.rongcloud.io/platform-chat-api/auth has them.
func authentic(r *http.Request, _ []byte, now time.Time) error {
	nonce, timestamp := r.Header.Get("Nonce"), r.Header.Get("Timestamp")
	if got := r.Header.Get("App-Key"); got != config().AppKey {
		return fmt.Errorf("App-Key is %q", got)
	}
	if n := len(nonce); n == 0 || n > 18 {
		return fmt.Errorf("the nonce %q has %d characters, want 1 to 18", nonce, n)
	}
	if want := strconv.FormatInt(now.UnixMilli(), 10); timestamp != want {
		return fmt.Errorf("Timestamp is %q, want %q", timestamp, want)
	}
	sum := sha1.Sum([]byte(config().AppSecret + nonce + timestamp)) //nolint:gosec // See the import.
	if got := r.Header.Get("Signature"); got != fmt.Sprintf("%x", sum) {
		return errors.New("1004: wrong signature")
	}
	return nil
}
