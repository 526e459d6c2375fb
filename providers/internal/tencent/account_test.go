package tencent

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
)

func TestAccountCheck(t *testing.T) {
	t.Parallel()
	good := Account{SDKAppID: 1400000000, SecretKey: sampleKey}
	for name, c := range map[string]struct {
		account Account
		want    []string // the fields at fault
	}{
		"smallest":       {good, nil},
		"complete":       {Account{1400000000, sampleKey, "admin_1-x", "silicon_valley"}, nil},
		"nothing":        {Account{}, []string{"sdk_app_id", "secret_key"}},
		"all wrong":      {Account{-1, "two words", "an admin", "mars"}, []string{"sdk_app_id", "secret_key", "identifier", "region"}},
		"long":           {Account{1, sampleKey, strings.Repeat("a", 33), ""}, []string{"identifier"}},
		"a key's line":   {Account{1, sampleKey + "\n", "", ""}, []string{"secret_key"}},
		"a key's letter": {Account{1, "schlüssel", "", ""}, []string{"secret_key"}},
	} {
		var got []string
		for _, err := range c.account.Check() {
			var fe *providers.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("%s: %T is no FieldError", name, err)
			}
			got = append(got, fe.Field)
			if c.account.SecretKey != "" && strings.Contains(err.Error(), strings.TrimSpace(c.account.SecretKey)) {
				t.Errorf("%s: the secret is in %q", name, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q is more than one line", name, err)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"":               "https://console.tim.qq.com",
		"china":          "https://console.tim.qq.com",
		"singapore":      "https://adminapisgp.im.qcloud.com",
		"seoul":          "https://adminapikr.im.qcloud.com",
		"tokyo":          "https://adminapijpn.im.qcloud.com",
		"frankfurt":      "https://adminapiger.im.qcloud.com",
		"silicon_valley": "https://adminapiusa.im.qcloud.com",
		"jakarta":        "https://adminapiidn.im.qcloud.com",
		"mumbai":         "https://adminapiind.im.qcloud.com",
		"mars":           "",
	}
	for region, base := range want {
		if got := (Account{Region: region}).BaseURL(); got != base {
			t.Errorf("%q: %q, want %q", region, got, base)
		}
	}
	if len(Regions()) != len(want)-2 {
		t.Errorf("%d regions, want %d", len(Regions()), len(want)-2)
	}
}
