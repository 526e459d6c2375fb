package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/recallq/recallq/providers/providertest/simulator"
)

// app is an entry of the apps in a recallq.yaml, as far as the simulator needs it.
type app struct {
	Provider string `yaml:"provider"`
	App      string `yaml:"app"`

	ChannelKey string `yaml:"channel_key"` // jiguang
	AppKey     string `yaml:"app_key"`     // engagelab, rongcloud
	SDKAppID   string `yaml:"sdk_app_id"`  // timpush, timchat
	Identifier string `yaml:"identifier"`

	MasterSecret     string `yaml:"master_secret"` // jiguang, engagelab
	MasterSecretFile string `yaml:"master_secret_file"`
	SecretKey        string `yaml:"secret_key"` // timpush, timchat
	SecretKeyFile    string `yaml:"secret_key_file"`
	AppSecret        string `yaml:"app_secret"` // rongcloud
	AppSecretFile    string `yaml:"app_secret_file"`

	sample bool // the secret is printed in the vendor's own documents
}

// keys are the names of the two keys of a provider's app that hold the account and its secret.
func keys(provider string) (account, secret string) {
	switch provider {
	case simulator.Jiguang:
		return "channel_key", "master_secret"
	case simulator.EngageLab:
		return "app_key", "master_secret"
	case simulator.RongCloud:
		return "app_key", "app_secret"
	}
	return "sdk_app_id", "secret_key"
}

// account is the app's account at the vendor.
func (a app) account() simulator.Account {
	s := simulator.Account{Provider: a.Provider, Identifier: a.Identifier}
	account, secret := keys(a.Provider)
	s.Account = map[string]string{"channel_key": a.ChannelKey, "app_key": a.AppKey, "sdk_app_id": a.SDKAppID}[account]
	s.Secret = map[string]string{"master_secret": a.MasterSecret, "secret_key": a.SecretKey, "app_secret": a.AppSecret}[secret]
	return s
}

// sampleApps are the sample accounts, as apps. Tencent's serves both of its APIs.
func sampleApps() []app {
	var apps []app
	for _, s := range simulator.SampleAccounts() {
		a := app{Provider: s.Provider, App: "sim", Identifier: s.Identifier, sample: true}
		switch s.Provider {
		case simulator.Jiguang:
			a.ChannelKey, a.MasterSecret = s.Account, s.Secret
		case simulator.EngageLab:
			a.AppKey, a.MasterSecret = s.Account, s.Secret
		case simulator.RongCloud:
			a.AppKey, a.AppSecret = s.Account, s.Secret
		default:
			a.SDKAppID, a.SecretKey = s.Account, s.Secret
			a.Provider = simulator.TIMPush
			apps = append(apps, a)
			a.Provider = simulator.TIMChat
		}
		apps = append(apps, a)
	}
	return apps
}

// readApps reads the apps of a recallq.yaml. What else is in the file is the worker's to judge. All faults are reported at
// once.
func readApps(name string, env func(string) (string, bool)) ([]app, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--accounts: %w", err)
	}
	var file struct {
		Apps []app `yaml:"apps"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("--accounts %s: %w", name, err)
	}
	if len(file.Apps) == 0 {
		return nil, fmt.Errorf("--accounts %s: has no apps; give a file like a recallq.yaml", name)
	}
	var faults []error
	for i := range file.Apps {
		a := &file.Apps[i]
		err := a.resolve(filepath.Dir(name), env)
		if err == nil {
			err = a.account().Check()
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("--accounts %s: apps[%d]: %w", name, i, err))
		}
	}
	return file.Apps, errors.Join(faults...)
}

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// resolve fills in what stands in the environment or in a file of its own.
func (a *app) resolve(dir string, env func(string) (string, bool)) error {
	for _, s := range []struct {
		key         string
		value, file *string
	}{
		{"master_secret", &a.MasterSecret, &a.MasterSecretFile},
		{"secret_key", &a.SecretKey, &a.SecretKeyFile},
		{"app_secret", &a.AppSecret, &a.AppSecretFile},
	} {
		if err := expand(s.file, env); err != nil {
			return err
		}
		if *s.file == "" {
			continue
		}
		if *s.value != "" {
			return fmt.Errorf("%s and %s_file: give one of them", s.key, s.key)
		}
		path := *s.file
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s_file: %w", s.key, err)
		}
		*s.value = strings.TrimRight(string(text), "\r\n")
	}
	for _, field := range []*string{
		&a.Provider, &a.App, &a.ChannelKey, &a.AppKey, &a.SDKAppID, &a.Identifier, &a.MasterSecret, &a.SecretKey, &a.AppSecret,
	} {
		if err := expand(field, env); err != nil {
			return err
		}
	}
	return nil
}

func expand(field *string, env func(string) (string, bool)) error {
	m := variable.FindStringSubmatch(*field)
	if m == nil {
		return nil
	}
	value, ok := env(m[1])
	if !ok {
		return fmt.Errorf("%s is not set in the environment", *field)
	}
	*field = value
	return nil
}

// printConfig prints a recallq.yaml for a simulator at url. Only the sample accounts' secrets are in it, which are no secrets;
// another's is left to the environment.
func printConfig(w io.Writer, url string, apps []app) error {
	var b strings.Builder
	b.WriteString("# A recallq.yaml for the simulator. Redis is the one on 127.0.0.1:6379 unless said otherwise.\napps:\n")
	for _, a := range apps {
		s := a.account()
		accountKey, secretKey := keys(a.Provider)
		account, secret := fmt.Sprintf("%q", s.Account), fmt.Sprintf("%q", s.Secret)
		if accountKey == "sdk_app_id" {
			account = s.Account
		}
		if !a.sample {
			secret = fmt.Sprintf("%q", "${"+placeholder(a)+"}")
		}
		fmt.Fprintf(&b, "  - provider: %s\n    app: %s\n    base_url: %s\n", a.Provider, a.App, url)
		fmt.Fprintf(&b, "    %s: %s\n    %s: %s\n", accountKey, account, secretKey, secret)
		if s.Identifier != "" {
			fmt.Fprintf(&b, "    identifier: %s\n", s.Identifier)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// placeholder is the name of an environment variable that is to hold an app's secret: JIGUANG_NEWS_SECRET.
func placeholder(a app) string {
	name := strings.ToUpper(a.Provider + "_" + a.App + "_secret")
	return regexp.MustCompile(`[^A-Z0-9]`).ReplaceAllString(name, "_")
}
