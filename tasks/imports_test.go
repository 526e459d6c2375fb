package tasks_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A push system imports this package to enqueue recalls. The vendors' HTTP clients, their credentials and net/http with its
// global state are the worker's: none of them is to be in the push system's program. asynq and go-redis keep to that.
func TestAPushSystemLinksNoHTTPClient(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(list)) {
		ours, isOurs := strings.CutPrefix(path, "github.com/recallq/recallq/")
		switch {
		case path == "net/http":
			t.Error("links net/http")
		case isOurs && ours != "tasks" && ours != "providers":
			t.Errorf("links %s; of ours it may import providers only, which is facts without a client", path)
		}
	}
}
