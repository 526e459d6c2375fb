package timchat

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/tencent"
	"github.com/recallq/recallq/providers/internal/tencent/tencenttest"
	"github.com/recallq/recallq/providers/providertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() Config {
	return Config{SDKAppID: tencenttest.SDKAppID, SecretKey: tencenttest.SecretKey, Identifier: tencenttest.Identifier}
}

// request is the one of seed 003.
func request() providers.Request {
	return providers.Request{MessageID: "31906_833502_1572869830", From: "vinson", To: "dramon"}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		Name:         providers.TIMChat,
		New:          func(opt providers.Options) (providers.Provider, error) { return New(config(), opt) },
		BaseURL:      config().BaseURL(),
		Secrets:      config().Secrets(),
		Request:      request(),
		Success:      tencenttest.Success,
		Code:         "0",
		Error:        tencenttest.Error,
		Refusal:      http.StatusOK,
		Codes:        append(tencenttest.CommonCodes(), ownCodes()...),
		Known:        known(),
		Undocumented: "93999",
		ID: func(_ *http.Request, text []byte) (string, error) {
			var sent struct{ MsgKey string }
			err := json.Unmarshal(text, &sent)
			return sent.MsgKey, err
		},
		Authentic: tencenttest.Authentic,
		Wire: []providertest.Wire{
			{File: "testdata/success.wire", Request: request(), Code: "0"},
			{File: "testdata/bad-json.wire", Request: request(), Kind: providers.Invalid, Code: "90001",
				Message: "Fail to Parse json data of body, Please check it"},
			{File: "testdata/repeated.wire", Request: request(), Kind: providers.AlreadyRecalled, Code: "20023"},
			{File: "testdata/unknown.wire", Request: request(), Kind: providers.NotFound, Code: "20022"},
		},
	})
}

func ownCodes() []providertest.Code {
	return tencenttest.Codes(map[providers.Kind][]int{
		providers.AlreadyRecalled: {20023},
		providers.Unavailable:     {20002, 20004, 20005, 90992, 90994, 90995, 91000},
		providers.Credentials:     {90009},
		providers.WindowClosed:    {20016},
		providers.NotFound:        {20022},
		providers.Invalid:         {20001, 20003, 90001, 90003, 90008, 90048, 90054},
	})
}

func known() []string {
	var numbers []string
	for _, c := range append(tencent.CommonCodes(), codes()...) {
		if c.To == 0 {
			numbers = append(numbers, strconv.FormatInt(c.From, 10))
		}
	}
	return numbers
}
