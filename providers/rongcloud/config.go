package rongcloud

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// Config is one RongCloud app.
type Config struct {
	AppKey    string `yaml:"app_key"`
	AppSecret string `yaml:"app_secret" secret:"true"`
	// DataCenter is the [DataCenter] where the app lives; empty means [DefaultDataCenter].
	DataCenter string `yaml:"data_center"`
}

// DefaultDataCenter is the data centre of an app whose configuration names none.
const DefaultDataCenter = "beijing"

// DataCenter is one of RongCloud's data centres. An app lives in exactly one; another one's host gives wrong results.
type DataCenter struct {
	Name string // as in the configuration
	Host string
	// Backup is the second host that RongCloud documents. It is never called on our own account, because a recall whose
	// answer was lost would be sent twice and count twice against three a day; an operator who needs it sets base_url.
	Backup string
}

// DataCenters returns every data centre, with the hosts of https://docs.rongcloud.io/platform-chat-api/base-url, which
// RongCloud's Go and Java SDKs have too.
func DataCenters() []DataCenter {
	return []DataCenter{
		{Name: "beijing", Host: "api.rong-api.com", Backup: "api-b.rong-api.com"},
		{Name: "singapore", Host: "api.sg-light-api.com", Backup: "api-b.sg-light-api.com"},
		{Name: "singapore_b", Host: "api.sg-b-light-api.com", Backup: "api-b.sg-b-light-api.com"},
		{Name: "north_america", Host: "api.us-light-api.com", Backup: "api-b.us-light-api.com"},
		{Name: "saudi_arabia", Host: "api.sau-light-api.com", Backup: "api-b.sau-light-api.com"},
	}
}

// oldHosts are outdated and still usable, by the same page; the last one is a third party's word.
var oldHosts = []string{"api.cn.ronghub.com", "api-cn.ronghub.com", "api2-cn.ronghub.com", "api-sg01.ronghub.com"}

// Check returns every fault of the configuration at once: [*providers.FieldError]s joined by errors.Join.
func (c Config) Check() error {
	var faults []error
	fault := func(field, reason string) {
		faults = append(faults, &providers.FieldError{Field: field, Reason: reason})
	}
	switch {
	case c.AppKey == "":
		fault("app_key", "is missing; give the App Key of the RongCloud console")
	case !rest.Visible(c.AppKey):
		fault("app_key", "contains a space or an unprintable character; give the App Key just as the RongCloud console shows it")
	}
	switch {
	case c.AppSecret == "":
		fault("app_secret", "is missing; give the App Secret of the RongCloud console")
	case !rest.Visible(c.AppSecret):
		fault("app_secret", "contains a space or an unprintable character; give the App Secret just as the RongCloud console shows it")
	}
	if _, ok := c.dataCenter(); !ok {
		fault("data_center", "is "+strconv.Quote(providers.Line(c.DataCenter, 40))+"; give one of "+dataCenterNames())
	}
	return errors.Join(faults...)
}

// Account returns the App Key, which names the app at RongCloud and is no secret.
func (c Config) Account() string { return c.AppKey }

// Secrets returns the values that must not be seen.
func (c Config) Secrets() []string { return []string{c.AppSecret} }

// BaseURL returns RongCloud's own URL for the app's data centre, or "" if there is no such data centre.
func (c Config) BaseURL() string {
	dc, ok := c.dataCenter()
	if !ok {
		return ""
	}
	return "https://" + dc.Host
}

// Hosts returns RongCloud's own hosts: those of every data centre, their backups, and those of before.
func (c Config) Hosts() []string {
	hosts := slices.Clone(oldHosts)
	for _, dc := range DataCenters() {
		hosts = append(hosts, dc.Host, dc.Backup)
	}
	return hosts
}

func (c Config) dataCenter() (DataCenter, bool) {
	name := c.DataCenter
	if name == "" {
		name = DefaultDataCenter
	}
	for _, dc := range DataCenters() {
		if dc.Name == name {
			return dc, true
		}
	}
	return DataCenter{}, false
}

func dataCenterNames() string {
	var names []string
	for _, dc := range DataCenters() {
		names = append(names, dc.Name)
	}
	return strings.Join(names, ", ")
}
