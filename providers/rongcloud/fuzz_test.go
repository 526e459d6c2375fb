package rongcloud

import (
	"strings"
	"testing"
	"unicode"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Whatever comes back is a success in RongCloud's own words, or a fault that is fit to be shown.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"code":200}`, `{"code":"200"}`, `{"code":1000,"errorMessage":"x"}`, `{"code":1e400}`, `{"code":[[[`, `null`, "\x00", "<html>",
	} {
		for _, status := range []int{200, 400, 430, 500} {
			f.Add(status, body)
		}
	}
	c, err := New(config(), providers.Options{})
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
			if status != 200 || body == "" {
				t.Fatalf("%d %q was taken for a success", status, body)
			}
			return
		}
		fault := c.fault(answer, envelope)
		if len(fault.Message) == 0 || len(fault.Message) > providers.MaxMessage || strings.ContainsFunc(fault.Error(), unprintable) {
			t.Errorf("%d %q: %q is not fit to be shown", status, body, fault.Error())
		}
		if fault.Code == "" || fault.MaybeDone != (fault.Kind == providers.Unavailable) {
			t.Errorf("%d %q: %+v", status, body, fault)
		}
	})
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
