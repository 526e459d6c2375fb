package timpush

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/recallq/recallq/providers"
)

// What users see: the request's own text, else the app's, never a mixture, and no empty object.
func TestOfflinePushInfo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ appTitle, appDesc, title, desc, want string }{
		"neither":              {"", "", "", "", `{"TaskId":"id"}`},
		"request's":            {"", "", "t", "d", `{"TaskId":"id","OfflinePushInfo":{"Title":"t","Desc":"d"}}`},
		"app's":                {"T", "D", "", "", `{"TaskId":"id","OfflinePushInfo":{"Title":"T","Desc":"D"}}`},
		"request's, not mixed": {"T", "D", "t", "", `{"TaskId":"id","OfflinePushInfo":{"Title":"t"}}`},
		"description alone":    {"", "", "", "d", `{"TaskId":"id","OfflinePushInfo":{"Desc":"d"}}`},
		"app's title alone":    {"T", "", "", "", `{"TaskId":"id","OfflinePushInfo":{"Title":"T"}}`},
	} {
		conf := config()
		conf.OfflinePushTitle, conf.OfflinePushDesc = c.appTitle, c.appDesc
		client, err := New(conf, providers.Options{})
		if err != nil {
			t.Fatal(err)
		}
		req := providers.Request{MessageID: "id", OfflinePushTitle: c.title, OfflinePushDesc: c.desc}
		got, err := json.Marshal(client.body(req))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, string(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

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
