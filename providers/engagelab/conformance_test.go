package engagelab

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The pair of https://engagelab.com/th_TH/docs/app-push/rest-api/rest-api-overview, and its Basic value.
const basic = "Yzk2ZjQyZTBkMmU2NjJlNDVkMDM1YWIxOmRmNGQ1OWU4NGVhYzJmOWQ1M2IzNmYxMg=="

var config = Config{AppKey: "c96f42e0d2e662e45d035ab1", MasterSecret: "df4d59e84eac2f9d53b36f12"}

func TestConformance(t *testing.T) {
	t.Parallel()
	request := providers.Request{MessageID: "1828256757"}
	providertest.Run(t, providertest.Harness{
		Name:    providers.EngageLab,
		New:     func(opt providers.Options) (providers.Provider, error) { return New(config, opt) },
		BaseURL: config.BaseURL(),
		Secrets: []string{config.MasterSecret, basic},
		Request: request,
		Success: func(requestID string) string {
			return fmt.Sprintf(`{"request_id":%s,"msg_id":"1180003"}`, providertest.JSON(requestID))
		},
		Error: func(code, message, _ string) string {
			return fmt.Sprintf(`{"error":{"code":%s,"message":%s}}`, code, providertest.JSON(message))
		},
		Codes:        documented(),
		Known:        slices.Collect(maps.Keys(codes)),
		Undocumented: "21999",
		ID: func(r *http.Request, _ []byte) (string, error) {
			dir, last := path.Split(r.URL.EscapedPath())
			if dir != "/v4/push/withdraw/" {
				return "", fmt.Errorf("path is %s", r.RequestURI)
			}
			return url.PathUnescape(last)
		},
		Authentic: func(r *http.Request, body []byte, _ time.Time) error {
			if got := r.Header.Get("Authorization"); got != "Basic "+basic {
				return fmt.Errorf("authorization is %q", got)
			}
			if len(body) > 0 {
				return fmt.Errorf("there is a body: %q", body)
			}
			return nil
		},
		Wire: []providertest.Wire{
			{File: "testdata/success.wire", Request: request},
			{
				File: "testdata/not_exist.wire", Request: request,
				Kind: providers.NotFound, Code: "21003", Message: "Parameter value is invalid,msg_id not exist",
			},
		},
		Cannot: []providertest.Capability{
			providertest.NoAlreadyRecalled, providertest.NoWindowClosed, providertest.NoFaultID, providertest.EmptySuccess,
		},
	})
}

// documented is the vendor's code list with the HTTP statuses it gives: 21003 from seed 001, the others from the error list
// in the vendor's agent skill (https://v50.ai/skills/engagelab-app-push).
func documented() []providertest.Code {
	list := []providertest.Code{
		{Code: "21003", Status: 400, Kind: providers.NotFound, Ambiguous: true},
		{Code: "21001", Status: 405, Kind: providers.Invalid},
		{Code: "21004", Status: 401, Kind: providers.Credentials},
		{Code: "21008", Status: 400, Kind: providers.Credentials},
		{Code: "21009", Status: 400, Kind: providers.Unavailable},
		{Code: "21030", Status: 503, Kind: providers.Unavailable},
		{Code: "21038", Status: 401, Kind: providers.Credentials},
		{Code: "23008", Status: 400, Kind: providers.Throttled},
		{Code: "23009", Status: 400, Kind: providers.Credentials},
		{Code: "27000", Status: 500, Kind: providers.Unavailable},
		{Code: "27001", Status: 401, Kind: providers.Credentials},
		{Code: "27002", Status: 400, Kind: providers.Unavailable},
	}
	for _, code := range strings.Fields(`20101 21002 21005 21011 21015 21016 21050 21051 21052 21053 21054 21055 21056 21057
		21058 23006 27303`) {
		list = append(list, providertest.Code{Code: code, Status: 400, Kind: providers.Invalid})
	}
	for _, code := range strings.Fields("21059 21306 27008 27009") {
		list = append(list, providertest.Code{Code: code, Status: 401, Kind: providers.Invalid})
	}
	return list
}

// Any 2xx is an acceptance, also without a body, but not one that has an error in it.
func TestAny2xxAccepts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		kind   providers.Kind
	}{
		{200, "", ""},
		{200, " \n", ""},
		{200, "{}", ""},
		{200, `{"request_id":"r","msg_id":1180003}`, ""},
		{200, `{"error":null,"msg_id":"1"}`, ""},
		{201, `{"msg_id":"1"}`, ""},
		{202, "", ""},
		{204, "", ""},
		{200, `{"error":{}}`, providers.Unavailable},
		{200, `{"error":"something"}`, providers.Unavailable},
		{200, `{"error":{"code":23008,"message":"limit"}}`, providers.Throttled},
		{202, "accepted", providers.Unavailable},
	} {
		t.Run(fmt.Sprint(c.status, c.body), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			client, err := New(config, providers.Options{BaseURL: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Recall(t.Context(), providers.Request{MessageID: "1828256757"})
			var kind providers.Kind
			if f := providers.AsFault(err); f != nil {
				kind = f.Kind
			}
			if kind != c.kind {
				t.Errorf("got %v, want kind %q", err, c.kind)
			}
		})
	}
}

// Hosts: https://www.engagelab.com/zh_CN/docs/app-push/developer-guide/rest-api/rest-api-overview, and the vendor's Go SDK.
func TestDataCenters(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":          "https://pushapi-sgp.engagelab.com",
		"singapore": "https://pushapi-sgp.engagelab.com",
		"virginia":  "https://pushapi-usva.engagelab.com",
		"frankfurt": "https://pushapi-defra.engagelab.com",
		"hongkong":  "https://pushapi-hk.engagelab.com",
		"japan":     "https://pushapi-jpn.engagelab.com",
		"brazil":    "https://pushapi-bra.engagelab.com",
	} {
		c := config
		c.DataCenter = name
		if err := c.Check(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if got := c.BaseURL(); got != want {
			t.Errorf("%q: base URL is %s, want %s", name, got, want)
		}
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{}, []string{"app_key", "master_secret"}},
		{Config{DataCenter: "mars"}, []string{"app_key", "master_secret", "data_center"}},
		{Config{AppKey: "a:b", MasterSecret: "hunter2\n"}, []string{"app_key", "master_secret"}},
		{Config{AppKey: "a b", MasterSecret: "hunter2"}, []string{"app_key"}},
		{Config{AppKey: "a", MasterSecret: "hunter2", DataCenter: "Singapore"}, []string{"data_center"}},
	} {
		err := c.config.Check()
		var got []string
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				var field *providers.FieldError
				if errors.As(e, &field) {
					got = append(got, field.Field)
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Check of %+v names %v, want %v", c.config.AppKey, got, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is in %q", err)
		}
		if _, err := New(c.config, providers.Options{}); err == nil {
			t.Errorf("New takes what Check refuses")
		}
	}
	if config.Account() != config.AppKey || !slices.Equal(config.Secrets(), []string{config.MasterSecret}) {
		t.Errorf("account is %q", config.Account())
	}
}
