package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// config reads the whole file.
func (d *decoder) config(root *yaml.Node) *Config {
	top := d.section(root, "", topKeys)
	if root != nil && root.Kind != yaml.MappingNode && !isNull(root) {
		return nil
	}
	c := &Config{
		Redis:     d.redis(top),
		Listen:    d.text(top, "listen", DefaultListen),
		UI:        d.ui(top),
		Retention: d.duration(top, "retention", DefaultRetention, minRetention, maxRetention),
	}
	d.checkListen(top, c)
	c.Apps = d.apps(top)
	return c
}

func (d *decoder) subsection(top section, key string, known []string) section {
	f, ok := top.fields[key]
	if !ok {
		return section{path: key, line: top.line}
	}
	s := d.section(f.value, f.path, known)
	s.line = f.line
	return s
}

func (d *decoder) redis(top section) redisconn.Options {
	s := d.subsection(top, "redis", redisKeys)
	o := redisconn.Options{
		Username: d.text(s, "username", ""),
		CAFile:   d.path(s, "ca_file"), CertFile: d.path(s, "cert_file"), KeyFile: d.path(s, "key_file"),
		RequireDurable: d.boolean(s, "require_durable", false),
	}
	if d.redisPassword == "" {
		o.Password, _ = d.secret(s, "password")
	}
	o.SentinelPassword, _ = d.secret(s, "sentinel_password")
	override, overridden := d.env(RedisURLVariable)
	if overridden = overridden && override != ""; overridden {
		o = o.WithURL(override) // what the file says of the place does not count, a variable that is not set included
	} else {
		d.place(s, &o)
	}
	if d.redisPassword != "" {
		o.Password = d.redisPassword
	}
	d.checkRedis(s, o, overridden)
	return o
}

// place reads where Redis is.
func (d *decoder) place(s section, o *redisconn.Options) {
	o.URL = d.text(s, "url", "")
	nodes, given := d.list(s, "cluster")
	if given && len(nodes) == 0 {
		d.fault(s.lineOf("cluster"), s.pathOf("cluster"), "is empty; name some of the nodes as host:port, or remove the key")
	}
	for _, f := range nodes {
		if v, ok := d.scalar(f, true); ok {
			o.Cluster = append(o.Cluster, v.text)
		}
	}
}

// checkRedis reports what the connection's own check finds, at the keys that it is about.
func (d *decoder) checkRedis(s section, o redisconn.Options, overridden bool) {
	for _, err := range flatten(o.Check()) {
		var fault *redisconn.FieldError
		if !errors.As(err, &fault) {
			d.fault(s.line, s.path, "%v", err)
			continue
		}
		path := s.pathOf(fault.Field)
		switch {
		case d.faulty[path]:
		case overridden && fault.Field == "username" && o.Username == "":
			d.fault(0, RedisURLVariable, "names a user but no password; write it into the url, as user:password@host")
		case d.redisPassword != "" && fault.Field == "password":
			d.fault(s.lineOf("url"), s.pathOf("url"), "has a password, and another one is given outside of this file; give one of the two")
		case overridden && fault.Field == "url":
			d.fault(0, RedisURLVariable, "%s", fault.Reason)
		default:
			d.fault(s.lineOf(fault.Field, fault.Field+"_file", "url", "cluster"), path, "%s", fault.Reason)
		}
	}
}

// flatten returns the errors that errors.Join has joined.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

func (d *decoder) ui(top section) UI {
	s := d.subsection(top, "ui", uiKeys)
	u := UI{
		Enabled: d.boolean(s, "enabled", true), ReadOnly: d.boolean(s, "read_only", true),
		Username: d.text(s, "username", DefaultUsername),
	}
	if strings.Contains(u.Username, ":") {
		d.fault(s.lineOf("username"), s.pathOf("username"), "contains a colon, which ends a user's name; choose another name")
	}
	u.Password, _ = d.secret(s, "password")
	return u
}

// checkListen reports what is wrong with the page's address. Whether it needs a password is left open while something is wrong with
// the page. An address that replaces the file's is its giver's to check.
func (d *decoder) checkListen(top section, c *Config) {
	if d.listen != "" {
		c.Listen = d.listen
		return
	}
	err := checkAddress(c.Listen)
	if err == nil && !d.faulty["ui"] && !d.faulty["ui.enabled"] && !d.faulty["ui.password"] {
		err = CheckListen(c.Listen, c.UI)
	}
	if err != nil {
		d.fault(top.lineOf("listen"), "listen", "%v", err)
	}
}

// CheckListen reports what is wrong with the page's address: it is no host:port, or it can be reached from other machines
// although the page asks for no password.
func CheckListen(listen string, ui UI) error {
	if err := checkAddress(listen); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(listen)
	if ui.Enabled && ui.Password == "" && !isLoopback(host) {
		return errors.New(strconv.Quote(providers.Line(listen, 80)) + " can be reached from other machines, and the page has no password; " +
			"set ui.password_file, or ui.enabled: false, or listen on 127.0.0.1")
	}
	return nil
}

func checkAddress(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return errors.New(strconv.Quote(providers.Line(listen, 80)) + " is not host:port; write it like " + DefaultListen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New(strconv.Quote(providers.Line(listen, 80)) + " has no port between 0 and 65535")
	}
	return nil
}

// isLoopback knows 127.0.0.0/8, ::1 and localhost, as the contract says; other names may resolve to anything.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() && !addr.Is4In6()
}

func (d *decoder) apps(top section) []App {
	items, _ := d.list(top, "apps")
	if len(items) == 0 && !d.faulty["apps"] {
		d.fault(top.lineOf("apps"), "apps", "has no app; give at least one, with provider and app")
	}
	var apps []App
	for _, item := range items {
		app := d.app(item)
		d.unique(apps, app, item.path)
		apps = append(apps, app)
	}
	return apps
}

// unique reports a lane or an account that is there already.
func (d *decoder) unique(earlier []App, app App, path string) {
	if app.Provider == "" {
		return
	}
	for i, e := range earlier {
		if e.Provider != app.Provider {
			continue
		}
		if app.Name != "" && e.Name == app.Name {
			d.fault(app.Line, path+".app", "%q is given twice for %s, first in line %d; choose another name", app.Name, app.Provider, e.Line)
		}
		if e.Settings != nil && app.Settings != nil && e.Settings.Account() == app.Settings.Account() && validAccount(app) {
			d.fault(app.Line, path, "has the same account as apps[%d] in line %d; limits belong to the account, so give it once", i, e.Line)
		}
	}
}

// validAccount is false for an account that is missing, which is reported as such.
func validAccount(app App) bool {
	return strings.Trim(app.Settings.Account(), "0") != ""
}

func (d *decoder) app(item field) App {
	settings, known := newSettings(d.providerOf(item))
	var keys []string // without a provider, whose keys they are cannot be told
	if known {
		keys = slices.Concat(appKeys, settings.keys())
	}
	s := d.section(item.value, item.path, keys)
	app := App{Line: item.line}
	if isNull(item.value) {
		d.fault(item.line, item.path, "is empty; give provider and app, or remove it")
	}
	if item.value.Kind != yaml.MappingNode {
		return app
	}
	d.provider(s, &app)
	app.Name = d.text(s, "app", "")
	d.checkName(s, app.Name)
	spec, _ := providers.Lookup(app.Provider)
	app.Timeout = d.duration(s, "timeout", providers.DefaultTimeout, minTimeout, maxTimeout)
	app.Concurrency = d.number(s, "concurrency", defaultConcurrency(app.Provider), minConcurrency, maxConcurrency)
	app.Window = d.duration(s, "window", spec.Window, minWindow, maxWindow)
	app.Limits = spec.Limits
	if s.has("limits") {
		app.Limits = d.limits(s)
	}
	if known {
		app.Settings, app.secretFiles = settings.read(d, s)
		app.BaseURL = app.Settings.BaseURL()
	}
	if base, ok := d.baseURL(s); ok {
		app.Simulated = app.Settings == nil || !isHost(base, app.Settings.Hosts())
		app.BaseURL = base
	}
	return app
}

// providerOf looks ahead for the provider, because it decides which keys are known. Its faults are reported later.
func (d *decoder) providerOf(item field) string {
	silent := newDecoder(d.file, d.dir, d.env)
	return silent.text(silent.section(item.value, item.path, nil), "provider", "")
}

func (d *decoder) provider(s section, app *App) {
	path := s.pathOf("provider")
	if !s.has("provider") {
		d.fault(s.line, path, "is missing; give one of %s", strings.Join(providers.Names(), ", "))
		return
	}
	name := d.text(s, "provider", "")
	if slices.Contains(providers.Names(), name) {
		app.Provider = name
		return
	}
	if name != "" && !d.faulty[path] {
		d.fault(s.lineOf("provider"), path, "%sis not known; give one of %s", quoted(name), strings.Join(providers.Names(), ", "))
	}
}

func (d *decoder) checkName(s section, name string) {
	path := s.pathOf("app")
	err := tasks.CheckApp(name)
	switch {
	case err == nil || d.faulty[path]:
	case name == "":
		d.fault(s.line, path, "is missing; give the app a name, like news")
	default:
		d.fault(s.lineOf("app"), path, "%s%v", quoted(name), err)
	}
}

// quoted is a value before a reason; empty for an empty value.
func quoted(value string) string {
	if value == "" {
		return ""
	}
	return strconv.Quote(providers.Line(value, 80)) + " "
}

// baseURL reads base_url. Its faults do not quote it, because it may hold a password by mistake.
func (d *decoder) baseURL(s section) (string, bool) {
	text := d.text(s, "base_url", "")
	if text == "" {
		return "", false
	}
	fault := func(reason string) (string, bool) {
		d.fault(s.lineOf("base_url"), s.pathOf("base_url"), "%s", reason)
		return "", false
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fault("is no base url; write scheme and host, like https://api.example.com")
	case u.User != nil:
		return fault("holds a user or a password; remove them, the provider's own keys are for that")
	case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#"):
		return fault("has a query or a fragment; give scheme, host and at most a path")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fault("is http://, which sends the credentials in the clear; use https:// (http:// is for loopback hosts alone: 127.0.0.0/8, ::1, localhost)")
	}
	return strings.TrimRight(text, "/"), true
}

// isHost reports whether a base URL leads to one of the hosts, on whatever port.
func isHost(base string, hosts []string) bool {
	u, err := url.Parse(base)
	return err == nil && slices.Contains(hosts, strings.TrimSuffix(strings.ToLower(u.Hostname()), "."))
}

func (d *decoder) limits(s section) []providers.Limit {
	if isNull(s.fields["limits"].value) {
		d.fault(s.lineOf("limits"), s.pathOf("limits"), "is empty; write [] for no limits, or remove the key for the provider's own")
		return nil
	}
	items, _ := d.list(s, "limits")
	var limits []providers.Limit
	for _, item := range items {
		limit, ok := d.limit(item)
		if !ok {
			continue
		}
		if slices.ContainsFunc(limits, func(l providers.Limit) bool { return l.Per == limit.Per && l.Day == limit.Day }) {
			d.fault(item.line, item.path, "is a second limit for the same time; keep the stricter one")
		}
		limits = append(limits, limit)
	}
	return limits
}

func (d *decoder) limit(item field) (providers.Limit, bool) {
	before := len(d.faults)
	s := d.section(item.value, item.path, limitKeys)
	if isNull(item.value) {
		d.fault(item.line, item.path, "is empty; write it like {calls: 1, per: 1s}")
	}
	if item.value.Kind != yaml.MappingNode {
		return providers.Limit{}, false
	}
	var l providers.Limit
	if !s.has("calls") {
		d.fault(s.line, s.pathOf("calls"), "is missing; give a number from %d to %d", minCalls, maxCalls)
	}
	l.Calls = d.number(s, "calls", 0, minCalls, maxCalls)
	const choices = "1s, 1m, 1h or day"
	switch per := d.text(s, "per", ""); {
	case per == "1s":
		l.Per = time.Second
	case per == "1m":
		l.Per = time.Minute
	case per == "1h":
		l.Per = time.Hour
	case per == "day":
		l.Day = true
	case !s.has("per"):
		d.fault(s.line, s.pathOf("per"), "is missing; give %s", choices)
	case !d.faulty[s.pathOf("per")]:
		d.fault(s.lineOf("per"), s.pathOf("per"), "%sis none of %s", quoted(per), choices)
	}
	if zone := d.text(s, "time_zone", ""); zone != "" {
		if !l.Day && s.has("per") {
			d.fault(s.lineOf("time_zone"), s.pathOf("time_zone"), "is for per: day only; remove it")
		}
		l.TimeZone = d.timeZone(s, zone)
	}
	return l, len(d.faults) == before
}

func (d *decoder) timeZone(s section, name string) *time.Location {
	if shanghai := providers.Shanghai(); name == shanghai.String() {
		return shanghai // known also where the machine has no time zone database
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		d.fault(s.lineOf("time_zone"), s.pathOf("time_zone"), "%sis no time zone; write it like Asia/Shanghai or UTC", quoted(name))
		return nil
	}
	return zone
}
