// Package version says which build of recallq a program is, from what Go puts into every binary. It imports nothing of ours.
package version

import (
	"runtime/debug"
	"strings"
)

// unknown is a build that says nothing of itself, as a test's.
const unknown = "unknown"

// String is the module's version, or else the revision that it was built from, and Go's version: "v1.2.0 (go1.26.0)".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = revision(info.Settings)
	}
	return version + " (" + info.GoVersion + ")"
}

func revision(settings []debug.BuildSetting) string {
	const short = 12
	var text, modified string
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			text = s.Value[:min(len(s.Value), short)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+dirty"
		}
	}
	if text == "" {
		return unknown
	}
	return strings.TrimSpace(text + modified)
}
