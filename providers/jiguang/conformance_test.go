package jiguang

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

// The vendor's own example: https://docs.jiguang.cn/jums/server/ums_server_overview/ has the pair, seed 000 its Basic value.
const basic = "N2Q0MzFlNDJkZmE2YTZkNjkzYWMyZDA0OjVlOTg3YWM2ZDJlMDRkOTVhOWQ4ZjBkMQ=="

var config = Config{ChannelKey: "7d431e42dfa6a6d693ac2d04", MasterSecret: "5e987ac6d2e04d95a9d8f0d1"}

func TestConformance(t *testing.T) {
	t.Parallel()
	request := providers.Request{MessageID: "v:1t:1603707455p:27133n:2", SentAt: time.Unix(1603707455, 0)}
	providertest.Run(t, providertest.Harness{
		Name:    providers.Jiguang,
		New:     func(opt providers.Options) (providers.Provider, error) { return New(config, opt) },
		BaseURL: config.BaseURL(),
		Secrets: []string{config.MasterSecret, basic},
		Request: request,
		Success: func(string) string { return `{"code":0,"message":"success"}` },
		Code:    "0",
		Error: func(code, message, _ string) string {
			return fmt.Sprintf(`{"code":%s,"message":%s}`, code, providertest.JSON(message))
		},
		Codes:        documented(),
		Known:        slices.Collect(maps.Keys(codes)),
		Undocumented: "1015999",
		ID: func(r *http.Request, _ []byte) (string, error) {
			dir, last := path.Split(r.URL.EscapedPath())
			if dir != "/v1/retract/" {
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
			{File: "testdata/success.wire", Request: request, Code: "0"},
			{
				File: "testdata/already_recalled.wire", Request: request,
				Kind: providers.AlreadyRecalled, Code: "1015055", Message: "消息已经被撤回",
			},
		},
		Cannot: []providertest.Capability{
			providertest.NoNotFound, providertest.NoWindowClosed, providertest.NoReceiptID, providertest.NoFaultID,
		},
	})
}

// documented is the vendor's code list: 1015055 from seed 000, the others from
// https://docs.jiguang.cn/jums/server/message_code/. HTTP statuses where they are known or can be inferred.
func documented() []providertest.Code {
	list := []providertest.Code{
		{Code: "1015055", Status: 400, Kind: providers.AlreadyRecalled},
		{Code: "4004", Status: 400, Kind: providers.Invalid},
		{Code: "4005", Status: 401, Kind: providers.Credentials},
		{Code: "5000", Status: 500, Kind: providers.Unavailable},
		{Code: "1015030", Kind: providers.Throttled},
		{Code: "1015029", Kind: providers.Throttled},
	}
	for _, code := range strings.Fields("1015005 1015006 1015007 1015008 1015009 1015010 1015011 1015012 1015025") {
		list = append(list, providertest.Code{Code: code, Kind: providers.Credentials})
	}
	for _, code := range strings.Fields(`1015004 1015023 1015026 1015031 1015032 1015034 1015038 1015046 1015073 1015074
		1015075 1015084 1015085 1015094 1015095 1015097`) {
		list = append(list, providertest.Code{Code: code, Kind: providers.Invalid})
	}
	return list
}

// Any 2xx with code 0 is a success, and no other status is.
func TestSuccessIsCodeZeroUnder2xx(t *testing.T) {
	t.Parallel()
	for status, done := range map[int]bool{200: true, 201: true, 202: true, 302: false, 400: false, 500: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"code":0,"message":"success"}`))
		}))
		c, err := New(config, providers.Options{BaseURL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Recall(t.Context(), providers.Request{MessageID: "v:1t:1603707455p:27133n:2"})
		if (err == nil) != done {
			t.Errorf("%d: %v", status, err)
		}
		c.Close()
		s.Close()
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	if err := config.Check(); err != nil {
		t.Errorf("a good configuration is refused: %v", err)
	}
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{}, []string{"channel_key", "master_secret"}},
		{Config{ChannelKey: "a:b", MasterSecret: "hunter2\n"}, []string{"channel_key", "master_secret"}},
		{Config{ChannelKey: "a b", MasterSecret: "hunter2"}, []string{"channel_key"}},
		{Config{ChannelKey: "a", MasterSecret: "hunter2 "}, []string{"master_secret"}},
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
			t.Errorf("Check of %q names %v, want %v", c.config.ChannelKey, got, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is in %q", err)
		}
		if _, err := New(c.config, providers.Options{}); err == nil {
			t.Errorf("New takes what Check refuses")
		}
	}
}

func TestConfigNamesTheAccount(t *testing.T) {
	t.Parallel()
	if got := config.Account(); got != "7d431e42dfa6a6d693ac2d04" {
		t.Errorf("account is %q", got)
	}
	if got := config.Secrets(); !slices.Equal(got, []string{"5e987ac6d2e04d95a9d8f0d1"}) {
		t.Errorf("secrets are %q", got)
	}
}
