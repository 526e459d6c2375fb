package timchat

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := config().Check(); err != nil {
		t.Error(err)
	}
	bad := Config{Identifier: "an admin", Region: "mars"}
	joined, ok := bad.Check().(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not joined", bad.Check())
	}
	var fields []string
	for _, err := range joined.Unwrap() {
		var fe *providers.FieldError
		if !errors.As(err, &fe) {
			t.Fatalf("%T is no FieldError", err)
		}
		fields = append(fields, fe.Field)
	}
	if d := cmp.Diff([]string{"sdk_app_id", "secret_key", "identifier", "region"}, fields); d != "" {
		t.Error(d)
	}
	if _, err := New(bad, providers.Options{}); err == nil {
		t.Error("New takes a configuration that Check refuses")
	}
	conf := config()
	conf.Region = "jakarta"
	if got := conf.BaseURL(); got != "https://adminapiidn.im.qcloud.com" {
		t.Errorf("base URL %s", got)
	}
	if got := conf.Account(); got != "88888888" {
		t.Errorf("account %s", got)
	}
	if d := cmp.Diff([]string{conf.SecretKey}, conf.Secrets()); d != "" {
		t.Error(d)
	}
}
