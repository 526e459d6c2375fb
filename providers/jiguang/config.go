package jiguang

import (
	"errors"
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// baseURL is the one host of Jiguang UMS (seed 000; https://docs.jiguang.cn/jums/server/ums_server_overview/). There are no
// regions and no backup; private clouds have hosts of their own, which providers.Options.BaseURL is for.
const baseURL = "https://api.ums.jiguang.cn"

// Config is a channel (渠道) at Jiguang UMS.
type Config struct {
	// ChannelKey names the channel.
	ChannelKey string `yaml:"channel_key"`
	// MasterSecret is the channel's secret.
	MasterSecret string `yaml:"master_secret" secret:"true"`
}

// Check returns every fault of the configuration at once, each a [*providers.FieldError], joined by errors.Join.
func (c Config) Check() error {
	var faults []error
	wrong := func(field, reason string) {
		faults = append(faults, &providers.FieldError{Field: field, Reason: reason})
	}
	switch {
	case c.ChannelKey == "":
		wrong("channel_key", "is missing; it is the ChannelKey in the Jiguang UMS console")
	case strings.Contains(c.ChannelKey, ":"):
		// Basic authentication ends the user at the first colon.
		wrong("channel_key", "contains a colon; give the ChannelKey alone")
	case !rest.Visible(c.ChannelKey):
		wrong("channel_key", "contains a space or an unprintable character; copy it again from the console")
	}
	switch {
	case c.MasterSecret == "":
		wrong("master_secret", "is missing; it is the MasterSecret in the Jiguang UMS console")
	case !rest.Visible(c.MasterSecret):
		wrong("master_secret", "contains a space or an unprintable character; copy it again from the console")
	}
	return errors.Join(faults...)
}

// Account names the channel. It is no secret.
func (c Config) Account() string { return c.ChannelKey }

// Secrets returns what must not be shown.
func (c Config) Secrets() []string { return []string{c.MasterSecret} }

// BaseURL is the vendor's own base URL.
func (c Config) BaseURL() string { return baseURL }

// Hosts are the vendor's own hosts, whichever the channel is called at.
func (c Config) Hosts() []string { return []string{strings.TrimPrefix(baseURL, "https://")} }
