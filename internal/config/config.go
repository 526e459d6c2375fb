package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
)

// Config is the whole file, with defaults filled in.
type Config struct {
	// Path is the file that was read.
	Path string
	// Redis is where the queue is. RECALLQ_REDIS_URL is applied already.
	Redis redisconn.Options
	// Listen is the address of the page, "host:port".
	Listen string
	UI     UI
	// Retention is how long asynq keeps completed tasks.
	Retention time.Duration
	// Apps are in the order of the file.
	Apps []App
}

// UI is the page.
type UI struct {
	Enabled  bool
	ReadOnly bool
	Username string
	// Password is a secret; empty means that the page asks for none.
	Password string
}

// App is one account at a provider: a lane.
type App struct {
	Provider, Name string
	// BaseURL is what is called: the vendor's own URL, or the file's base_url without a slash at its end.
	BaseURL string
	// Timeout bounds one call.
	Timeout time.Duration
	// Concurrency is how many calls may be in flight, in each worker process.
	Concurrency int
	// Window is how long after its sending a message may be taken back.
	Window time.Duration
	// Limits are those of the file, else the provider's; none for "[]".
	Limits []providers.Limit
	// Simulated is true if the host of BaseURL is none of the vendor's.
	Simulated bool
	// Line is where the app begins in the file.
	Line int
	// Settings is the provider's own configuration, a value of its Config type.
	Settings Settings

	secretFiles map[string]string // key of Settings -> the file that its value comes from
}

// Settings is what the Config type of every provider's package can do.
type Settings interface {
	// Check returns every fault: errors.Join of *providers.FieldError.
	Check() error
	// Account names the account at the vendor, and is no secret.
	Account() string
	// Secrets are the values that must not be seen.
	Secrets() []string
	// BaseURL is the vendor's own.
	BaseURL() string
	// Hosts are all hosts of the vendor's, in lower case: of every region, backups and those of before.
	Hosts() []string
}

// Lane returns the lane's name: "jiguang:news".
func (a App) Lane() string { return a.Provider + ":" + a.Name }

// ForgottenEarly are the apps whose window is longer than what has ended is kept. A recall of theirs that ended well is not known
// any more when it is enqueued again late in its window: it is called, and counted, a second time. retention is the one in force.
func (c Config) ForgottenEarly(retention time.Duration) []App {
	var apps []App
	for _, a := range c.Apps {
		if retention < a.Window {
			apps = append(apps, a)
		}
	}
	return apps
}

// BeyondVendor are the apps whose window is longer than the one that their vendor documents: it refuses what is older.
func (c Config) BeyondVendor() []App {
	var apps []App
	for _, a := range c.Apps {
		if spec, _ := providers.Lookup(a.Provider); spec.WindowDocumented && a.Window > spec.Window {
			apps = append(apps, a)
		}
	}
	return apps
}

// ShortAccount names the account for people: a number as it is, a key by its beginning.
func (a App) ShortAccount() string {
	if a.Settings == nil {
		return ""
	}
	const shown = 6
	account := a.Settings.Account()
	if len(account) <= shown || strings.Trim(account, "0123456789") == "" {
		return account
	}
	return account[:shown] + "…"
}

// String says the configuration in a few lines, without secrets.
func (c Config) String() string {
	lines := []string{
		"redis " + redisconn.Describe(c.Redis),
		"listen " + c.Listen,
		"ui " + c.UI.String(),
		"retention " + c.Retention.String(),
	}
	for _, a := range c.Apps {
		lines = append(lines, a.String())
	}
	return strings.Join(lines, "\n")
}

// GoString is for %#v, which would print the secrets.
func (c Config) GoString() string { return "config.Config{" + c.String() + "}" }

// MarshalJSON leaves the secrets out.
func (c Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"redis": redisconn.Describe(c.Redis), "listen": c.Listen, "ui": c.UI, "retention": c.Retention.String(), "apps": c.Apps,
	})
}

// String describes the page without its password.
func (u UI) String() string {
	if !u.Enabled {
		return "disabled"
	}
	return fmt.Sprintf("read_only=%t username=%s password=%s", u.ReadOnly, u.Username, set(u.Password))
}

// GoString is for %#v.
func (u UI) GoString() string { return "config.UI{" + u.String() + "}" }

// MarshalJSON leaves the password out.
func (u UI) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"enabled": u.Enabled, "read_only": u.ReadOnly, "username": u.Username, "password": set(u.Password),
	})
}

func set(secret string) string {
	if secret == "" {
		return "not set"
	}
	return "set"
}

// String describes the app in one line, without secrets.
func (a App) String() string {
	simulated := ""
	if a.Simulated {
		simulated = " (simulated)"
	}
	return fmt.Sprintf("%s account=%s base_url=%s%s timeout=%s concurrency=%d window=%s limits=%s",
		a.Lane(), a.ShortAccount(), a.BaseURL, simulated, a.Timeout, a.Concurrency, Short(a.Window), limitWords(a.Limits))
}

// GoString is for %#v.
func (a App) GoString() string { return "config.App{" + a.String() + "}" }

// MarshalJSON leaves the secrets out.
func (a App) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"provider": a.Provider, "app": a.Name, "account": a.ShortAccount(), "base_url": a.BaseURL, "simulated": a.Simulated,
		"timeout": a.Timeout.String(), "concurrency": a.Concurrency, "window": a.Window.String(), "limits": limitWords(a.Limits),
	})
}

func limitWords(limits []providers.Limit) string {
	if len(limits) == 0 {
		return "none"
	}
	var words []string
	for _, l := range limits {
		words = append(words, l.String())
	}
	return strings.Join(words, ", ")
}

// The defaults and bounds of section 8 of the contract.
const (
	DefaultListen    = "127.0.0.1:8080"
	DefaultUsername  = "ops"
	DefaultRetention = 24 * time.Hour

	minTimeout, maxTimeout         = 100 * time.Millisecond, time.Minute
	minWindow, maxWindow           = time.Second, 10 * 365 * 24 * time.Hour
	minRetention, maxRetention     = time.Second, 90 * 24 * time.Hour
	minConcurrency, maxConcurrency = 1, 1000
	minCalls, maxCalls             = 1, 100_000
)

// defaultConcurrency is how many calls to a provider are worth having in flight: enough to fill its default limits at a
// usual answer time, few where the limits are a call a second or less.
func defaultConcurrency(provider string) int {
	switch provider {
	case providers.Jiguang:
		return 16
	case providers.EngageLab, providers.TIMChat:
		return 32
	}
	return 2
}

// Keys that are the same for all: the file's sections and what the unknown-key check compares with.
var (
	topKeys   = []string{"redis", "listen", "ui", "retention", "apps"}
	uiKeys    = []string{"enabled", "read_only", "username", "password", "password_file"}
	appKeys   = []string{"provider", "app", "base_url", "timeout", "concurrency", "window", "limits"}
	limitKeys = []string{"calls", "per", "time_zone"}
	redisKeys = []string{
		"url", "cluster", "username", "password", "password_file", "sentinel_password", "sentinel_password_file",
		"ca_file", "cert_file", "key_file", "require_durable",
	}
)
