package engagelab

import (
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
	if err := sim.Know(
		simulator.Message{Provider: simulator.EngageLab, ID: "1828256757", SentAt: time.Now()},
		simulator.Message{Provider: simulator.EngageLab, ID: "1180003", SentAt: time.Now().Add(-25 * time.Hour)},
	); err != nil {
		t.Fatal(err)
	}
	bad := config
	bad.MasterSecret = "not-the-secret"
	for _, c := range []struct {
		name, id  string
		config    Config
		want      providers.Kind // empty: recalled
		code      string
		ambiguous bool
	}{
		{"wrong secret", "1828256757", bad, providers.Credentials, "21004", false},
		{"first", "1828256757", config, "", "", false},
		// One code for all three.
		{"repeated", "1828256757", config, providers.NotFound, "21003", true},
		{"too old", "1180003", config, providers.NotFound, "21003", true},
		{"unknown", "42", config, providers.NotFound, "21003", true},
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
		if fault.Kind != c.want || fault.Code != c.code || fault.Ambiguous != c.ambiguous {
			t.Errorf("%s: got %v, want %q (%s)", c.name, err, c.want, c.code)
		}
	}
}
