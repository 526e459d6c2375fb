package timchat

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
		simulator.Message{Provider: simulator.TIMChat, ID: "1_2_3", SentAt: now, From: "vinson", To: "dramon"},
	); err != nil {
		t.Fatal(err)
	}
	good := Config{SDKAppID: 1400000000, SecretKey: "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"}
	bad := good
	bad.SecretKey = "not-the-secret"

	for _, c := range []struct {
		name    string
		config  Config
		request providers.Request
		want    providers.Kind // empty: recalled
		code    string
	}{
		{"first", good, providers.Request{MessageID: "1_2_3", From: "vinson", To: "dramon"}, "", ""},
		{"repeated", good, providers.Request{MessageID: "1_2_3", From: "vinson", To: "dramon"}, providers.AlreadyRecalled, "20023"},
		{"the wrong way round", good, providers.Request{MessageID: "1_2_3", From: "dramon", To: "vinson"}, providers.NotFound, "20022"},
		{"unknown", good, providers.Request{MessageID: "1_2_4", From: "vinson", To: "dramon"}, providers.NotFound, "20022"},
		{"no MsgKey", good, providers.Request{MessageID: "x", From: "vinson", To: "dramon"}, providers.Invalid, "90054"},
		{"wrong secret", bad, providers.Request{MessageID: "1_2_3", From: "vinson", To: "dramon"}, providers.Credentials, "70005"},
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
}
