package timchat

import (
	"errors"

	"github.com/recallq/recallq/providers/internal/tencent"
)

// Config is one SDKAppID whose one-to-one messages are to be taken back.
type Config struct {
	SDKAppID  int64  `yaml:"sdk_app_id"`
	SecretKey string `yaml:"secret_key" secret:"true"`
	// Identifier is the UserID of an app admin; empty means "administrator".
	Identifier string `yaml:"identifier"`
	// Region is where the app lives; empty means "china".
	Region string `yaml:"region"`
}

// Check returns every fault of the configuration at once: [*providers.FieldError]s joined by errors.Join.
func (c Config) Check() error { return errors.Join(c.account().Check()...) }

// Account returns the SDKAppID, which names the account at Tencent and is no secret.
func (c Config) Account() string { return c.account().ID() }

// Secrets returns the values that must not be seen.
func (c Config) Secrets() []string { return []string{c.SecretKey} }

// BaseURL returns Tencent's own URL for the region, or "" if there is no such region.
func (c Config) BaseURL() string { return c.account().BaseURL() }

// Hosts returns Tencent's own hosts: those of every region, and the backups that it documents. Tokyo's backup is inferred from the
// names of the others.
func (c Config) Hosts() []string {
	hosts := []string{"adminapijpn.my-imcloud.com"}
	for _, r := range tencent.Regions() {
		hosts = append(hosts, r.Host)
		if r.Backup != "" {
			hosts = append(hosts, r.Backup)
		}
	}
	return hosts
}

func (c Config) account() tencent.Account {
	return tencent.Account{SDKAppID: c.SDKAppID, SecretKey: c.SecretKey, Identifier: c.Identifier, Region: c.Region}
}
