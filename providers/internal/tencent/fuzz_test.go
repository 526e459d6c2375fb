package tencent

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Whatever comes back is a success in Tencent's own words, or a fault that is fit to be shown.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`,
		`{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":70001,"RequestId":7}`,
		`{"ActionStatus":"OK","ErrorInfo":["x"],"ErrorCode":"0"}`,
		`{"ErrorCode":1e400}`, `{"ErrorCode":-0}`, `{"ErrorCode":[[[`, `null`, "\x00", "<html>",
	} {
		f.Add(200, body)
		f.Add(503, body)
	}
	g, err := NewGateway(Account{SDKAppID: 1, SecretKey: sampleKey}, nil, providers.Options{Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 999 {
			return
		}
		answer := &rest.Answer{Status: status, Body: []byte(body)}
		envelope, accepted := read(answer)
		if accepted {
			if status > 299 || body == "" {
				t.Fatalf("%d %q was taken for a success", status, body)
			}
			return
		}
		fault := providers.AsFault(g.fault(answer, envelope, g.signer.Sig()))
		if len(fault.Message) == 0 || len(fault.Message) > providers.MaxMessage || strings.ContainsFunc(fault.Error(), unprintable) {
			t.Errorf("%d %q: %q is not fit to be shown", status, body, fault.Error())
		}
		begun := status != http.StatusServiceUnavailable || fault.Code != "HTTP 503" // a documented code
		if fault.Code == "" || fault.MaybeDone && fault.Kind != providers.Unavailable || fault.MaybeDone && !begun {
			t.Errorf("%d %q: %+v", status, body, fault)
		}
	})
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
