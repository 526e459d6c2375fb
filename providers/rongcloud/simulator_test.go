package rongcloud

import (
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest/simulator"
)

// The simulator was written from the same documents by other hands, and knows nothing of this package: what the client sends is
// what the simulator wants, and what it answers is what the client reads.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	now := time.Now()
	sim, err := simulator.New(simulator.Options{NoLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	server, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	defer sim.Close()
	if err := sim.Know(
		simulator.Message{Provider: simulator.RongCloud, ID: "BC52-ESJ0-022O-001H", SentAt: now},
	); err != nil {
		t.Fatal(err)
	}
	good := config()
	bad := good
	bad.AppSecret = "not-the-secret"

	full := providers.Request{MessageID: "BC52-ESJ0-022O-001H", From: "u", SentAt: now, IsAdmin: true, IsDelete: true,
		DisableUpdateLastMsg: true, Extra: "é&=", CorrelationID: "rongcloud_0123456789abcdef0123456789abcdef"}

	for _, c := range []struct {
		name    string
		config  Config
		request providers.Request
		want    providers.Kind // empty: recalled
		code    string
	}{
		{"first", good, providers.Request{MessageID: "BC52-ESJ0-022O-001H", From: "u"}, "", ""},
		{"repeated", good, full, "", ""}, // no code is documented for this
		{"no sender", good, providers.Request{MessageID: "BC52-ESJ0-022O-001H"}, providers.Invalid, "1002"},
		{"wrong secret", bad, full, providers.Credentials, "1004"},
	} {
		client, err := New(c.config, providers.Options{BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Recall(t.Context(), c.request)
		client.Close()
		fault := providers.AsFault(err)
		if fault == nil {
			fault = &providers.Fault{}
		}
		if fault.Kind != c.want || fault.Code != c.code {
			t.Errorf("%s: got %v, want %q (%s)", c.name, err, c.want, c.code)
		}
	}
	if got := sim.Ledger()[1].Details; got.IsAdmin != "1" || got.IsDelete != "1" || got.DisableUpdateLastMsg != "true" || got.Extra != "é&=" {
		t.Errorf("the vendor read %+v", got)
	}
}
