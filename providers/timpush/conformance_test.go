package timpush

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

// request is the one of seed 002.
func request() providers.Request {
	return providers.Request{
		MessageID:        "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e",
		OfflinePushTitle: "recall title",
		OfflinePushDesc:  "The other party has recalled a message.",
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	bare := request()
	bare.OfflinePushTitle, bare.OfflinePushDesc = "", ""
	providertest.Run(t, providertest.Harness{
		Name:         providers.TIMPush,
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
			var sent struct{ TaskId string } //nolint:revive // the vendor's name
			err := json.Unmarshal(text, &sent)
			return sent.TaskId, err
		},
		Authentic: tencenttest.Authentic,
		Wire: []providertest.Wire{
			{File: "testdata/success.wire", Request: request(), Code: "0"},
			{File: "testdata/no-text.wire", Request: bare, Kind: providers.Invalid, Code: "90053",
				Message: "Invalid recall. Push with OnlineOnlyFlag=0, but the recall does not include OfflinePushInfo."},
			{File: "testdata/repeated.wire", Request: request(), Kind: providers.AlreadyRecalled, Code: "90050"},
			{File: "testdata/too-late.wire", Request: request(), Kind: providers.WindowClosed, Code: "90052"},
		},
	})
}

func ownCodes() []providertest.Code {
	return tencenttest.Codes(map[providers.Kind][]int{
		providers.AlreadyRecalled: {90050},
		providers.Unavailable:     {90992, 90994, 90995, 91000},
		providers.Throttled:       {90024, 90047, 90051},
		providers.Credentials:     {90009, 90045},
		providers.WindowClosed:    {90052},
		providers.NotFound:        {90049},
		providers.Invalid:         {90001, 90005, 90018, 90020, 90022, 90026, 90032, 90033, 90039, 90040, 90053, 90056},
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
