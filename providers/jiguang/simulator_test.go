package jiguang

import (
	"fmt"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest/simulator"
)

// The simulator was written from the same documents by other hands, and knows nothing of this package: what the client
// sends is what the simulator wants, and what it answers is what the client reads.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
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
	id := fmt.Sprintf("v:1t:%dp:27133n:2", time.Now().Unix())
	if err := sim.Know(
		simulator.Message{Provider: simulator.Jiguang, ID: id},
		simulator.Message{Provider: simulator.Jiguang, ID: "a/b?c#d%2e"},
	); err != nil {
		t.Fatal(err)
	}
	bad := config
	bad.MasterSecret = "not-the-secret"
	for _, c := range []struct {
		name, id string
		config   Config
		want     providers.Kind // empty: recalled
		code     string
	}{
		{"wrong secret", id, bad, providers.Credentials, "4005"},
		{"first", id, config, "", ""},
		{"repeated", id, config, providers.AlreadyRecalled, "1015055"},
		{"escaped", "a/b?c#d%2e", config, "", ""},
		{"unknown", "v:1t:1603707455p:1n:1", config, providers.Invalid, "4004"},
	} {
		client, err := New(c.config, providers.Options{BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Recall(t.Context(), providers.Request{MessageID: c.id})
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
