// Package registry knows which provider's package belongs to an app of the configuration: one explicit switch, where a new
// provider is added.
package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
)

// Build returns the app's provider, with a transport of its own. The caller closes it. Its error is about the configuration,
// which [config.Load] has checked: a base URL that the transport does not take, or settings that are no provider's.
//
// Connections are not bounded: the lane's concurrency bounds the calls, and a call that waited for a connection would spend
// its timeout on that.
func Build(app config.App) (providers.Provider, error) {
	opt := providers.Options{BaseURL: app.BaseURL, Timeout: app.Timeout}
	switch c := app.Settings.(type) {
	case jiguang.Config:
		return provider(jiguang.New(c, opt))
	case engagelab.Config:
		return provider(engagelab.New(c, opt))
	case timpush.Config:
		return provider(timpush.New(c, opt))
	case timchat.Config:
		return provider(timchat.New(c, opt))
	case rongcloud.Config:
		return provider(rongcloud.New(c, opt))
	}
	return nil, fmt.Errorf("the app %s has settings of the type %T, which is no provider's", app.Lane(), app.Settings)
}

// provider keeps a nil client from becoming an interface that is not nil.
func provider[P providers.Provider](p P, err error) (providers.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Account names the app's account at its vendor. It is no secret.
func Account(app config.App) string { return app.Settings.Account() }

// SharedAccount names the account, where lanes of another provider may share it: TIMPush and Tencent Chat call with the same
// SDKAppID, and some of Tencent's limits are on that. It is empty for an app that shares with nobody.
func SharedAccount(app config.App) string {
	switch app.Settings.(type) {
	case timpush.Config, timchat.Config:
		return "tencent:" + Account(app)
	}
	return ""
}

// DefaultText is the app's own text for recalls that bring none; empty if it has none.
func DefaultText(app config.App) string {
	c, ok := app.Settings.(timpush.Config)
	if !ok || c.OfflinePushTitle == "" && c.OfflinePushDesc == "" {
		return ""
	}
	return c.OfflinePushTitle + "\n" + c.OfflinePushDesc
}

// fingerprintBytes is how much of the digest is kept: enough to tell credentials apart, too little to be of use otherwise.
const fingerprintBytes = 8

// Fingerprint tells one set of credentials from another, without telling them: 16 hexadecimal digits of an HMAC-SHA256, keyed
// by the secrets, over provider, account, identifier and base URL. A hold binds only the fingerprint that it was seen with.
func Fingerprint(app config.App) string {
	digest := hmac.New(sha256.New, []byte(framed(app.Settings.Secrets())))
	_, _ = io.WriteString(digest, framed([]string{app.Provider, Account(app), identifier(app), app.BaseURL}))
	return hex.EncodeToString(digest.Sum(nil)[:fingerprintBytes])
}

// identifier is who calls, where an account has several callers: a wrong one is refused like a wrong secret.
func identifier(app config.App) string {
	switch c := app.Settings.(type) {
	case timpush.Config:
		return c.Identifier
	case timchat.Config:
		return c.Identifier
	}
	return ""
}

// framed joins texts so that no two lists of them give the same: each with its length in front.
func framed(texts []string) string {
	var all string
	for _, text := range texts {
		all += strconv.Itoa(len(text)) + ":" + text
	}
	return all
}
