// Package config reads the configuration file: strictly, and with every fault reported at once, each with its line and path.
//
//	recallq.yaml:12: apps[1].timeout: "10" is not a duration; write 10s
//
// What an app needs beyond the keys that all have belongs to its provider's package: its Config struct names the keys by
// `yaml` tags and the secrets by `secret:"true"`, and checks itself. This package knows none of those keys.
//
// A secret shows nowhere: a bad one is named by its key, and [Config], [App] and [UI] print without theirs.
package config
