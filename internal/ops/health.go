package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/recallq/recallq/tasks"
)

// readyWithin bounds what /readyz asks Redis: who waits for it would rather have a no.
const readyWithin = 2 * time.Second

// Readiness is how a worker stands.
type Readiness struct {
	Redis bool // it answers
	// RedisReason is why it does not, in words that anybody may read; empty if it does, or is not known.
	RedisReason string
	Lanes       []LaneState
}

// LaneState is how one lane of this worker stands.
type LaneState struct {
	Lane    string // "jiguang:news"
	Running bool   // its servers take work, or would if it were not held
	Held    bool
	Reason  string    // why it is held
	Until   time.Time // when the next probe is due; zero if it is not held
	// Simulated is true if what is called is not the vendor.
	Simulated bool
}

// OK reports whether the worker is ready: Redis answers and a lane runs. A held lane is the vendor's or the account's trouble
// and no reason to take the worker away.
func (r Readiness) OK() bool {
	return r.Redis && slices.ContainsFunc(r.Lanes, func(l LaneState) bool { return l.Running })
}

type readinessJSON struct {
	Redis  bool       `json:"redis"`
	Reason string     `json:"redis_reason,omitempty"`
	Lanes  []laneJSON `json:"lanes"`
}

type laneJSON struct {
	Lane      string `json:"lane"`
	Running   bool   `json:"running"`
	Held      bool   `json:"held"`
	Reason    string `json:"reason"`
	Until     string `json:"until,omitempty"`
	Simulated bool   `json:"simulated,omitempty"`
}

// MarshalJSON writes {"redis", "redis_reason", "lanes": [{"lane", "running", "held", "reason", "until", "simulated"}]}; until is RFC 3339, UTC. It
// is left out where it is zero, as simulated is where it is false and redis_reason where it is empty.
func (r Readiness) MarshalJSON() ([]byte, error) {
	w := readinessJSON{Redis: r.Redis, Reason: r.RedisReason, Lanes: make([]laneJSON, 0, len(r.Lanes))}
	for _, l := range r.Lanes {
		out := laneJSON{Lane: l.Lane, Running: l.Running, Held: l.Held, Reason: l.Reason, Simulated: l.Simulated}
		if !l.Until.IsZero() {
			out.Until = tasks.FormatTime(l.Until)
		}
		w.Lanes = append(w.Lanes, out)
	}
	return json.Marshal(w)
}

// healthy says that the process runs and answers, no more: a worker without Redis is not mended by a restart.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

func readyHandler(ready func(context.Context) Readiness) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
		defer cancel()
		state := ready(ctx)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if !state.OK() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(state)
	})
}
