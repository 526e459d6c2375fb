package engagelab

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// DefaultDataCenter is where an app lives unless its configuration says otherwise; the vendor's own SDK has the same.
const DefaultDataCenter = "singapore"

// dataCenters are the vendor's hosts since 2025-03-19 (https://www.engagelab.com/zh_CN/docs/app-push/developer-guide/rest-api/rest-api-overview;
// Japan and Brazil from github.com/engagelab-mt/engagelab-apppush-go, engagelab.go). Data centres are separate: an app
// is in one of them, and none stands in for another.
var dataCenters = []struct{ name, baseURL string }{
	{"singapore", "https://pushapi-sgp.engagelab.com"},
	{"virginia", "https://pushapi-usva.engagelab.com"},
	{"frankfurt", "https://pushapi-defra.engagelab.com"},
	{"hongkong", "https://pushapi-hk.engagelab.com"},
	{"japan", "https://pushapi-jpn.engagelab.com"},
	{"brazil", "https://pushapi-bra.engagelab.com"},
}

// oldHosts are those of before, which still work (https://engagelab.com/th_TH/docs/app-push/rest-api/rest-api-overview).
var oldHosts = []string{
	"push.api.engagelab.cc", "push-usva.api.engagelab.cc", "push-defra.api.engagelab.cc", "push-hk.api.engagelab.cc",
}

// Config is an app at EngageLab AppPush.
type Config struct {
	// AppKey names the app.
	AppKey string `yaml:"app_key"`
	// MasterSecret is the app's secret.
	MasterSecret string `yaml:"master_secret" secret:"true"`
	// DataCenter is where the app lives: singapore (also if empty), virginia, frankfurt, hongkong, japan or brazil.
	DataCenter string `yaml:"data_center"`
}

// Check returns every fault of the configuration at once, each a [*providers.FieldError], joined by errors.Join.
func (c Config) Check() error {
	var faults []error
	wrong := func(field, reason string) {
		faults = append(faults, &providers.FieldError{Field: field, Reason: reason})
	}
	switch {
	case c.AppKey == "":
		wrong("app_key", "is missing; it is the AppKey in the EngageLab console")
	case strings.Contains(c.AppKey, ":"):
		// Basic authentication ends the user at the first colon.
		wrong("app_key", "contains a colon; give the AppKey alone")
	case !rest.Visible(c.AppKey):
		wrong("app_key", "contains a space or an unprintable character; copy it again from the console")
	}
	switch {
	case c.MasterSecret == "":
		wrong("master_secret", "is missing; it is the Master Secret in the EngageLab console")
	case !rest.Visible(c.MasterSecret):
		wrong("master_secret", "contains a space or an unprintable character; copy it again from the console")
	}
	if c.BaseURL() == "" {
		var names []string
		for _, d := range dataCenters {
			names = append(names, d.name)
		}
		wrong("data_center", fmt.Sprintf("%q is none of %s", providers.Line(c.DataCenter, 40), strings.Join(names, ", ")))
	}
	return errors.Join(faults...)
}

// Account names the app. It is no secret.
func (c Config) Account() string { return c.AppKey }

// Secrets returns what must not be shown.
func (c Config) Secrets() []string { return []string{c.MasterSecret} }

// BaseURL is the vendor's own base URL for the app's data centre; empty if there is no such data centre.
func (c Config) BaseURL() string {
	name := c.DataCenter
	if name == "" {
		name = DefaultDataCenter
	}
	for _, d := range dataCenters {
		if d.name == name {
			return d.baseURL
		}
	}
	return ""
}

// Hosts are the vendor's own hosts, of every data centre, whichever the app is called at.
func (c Config) Hosts() []string {
	hosts := slices.Clone(oldHosts)
	for _, d := range dataCenters {
		hosts = append(hosts, strings.TrimPrefix(d.baseURL, "https://"))
	}
	return hosts
}
