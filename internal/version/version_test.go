package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	revision := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123456789abcdef0123"}}
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.0 (go1.26.0)":             {GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.0"}, Settings: revision},
		"0123456789ab (go1.26.0)":       {GoVersion: "go1.26.0", Main: debug.Module{Version: "(devel)"}, Settings: revision},
		"0123456789ab+dirty (go1.26.0)": {GoVersion: "go1.26.0", Settings: append(revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"})},
		"unknown (go1.26.0)":            {GoVersion: "go1.26.0"},
	} {
		if got := describe(info); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if String() == "" {
		t.Error("this build has no description")
	}
}
