package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/registry"
	"github.com/recallq/recallq/providers"
)

// allLanes is what --call means without a value.
const allLanes = "all"

// check prints what the configuration comes to and whether Redis, and on request each account, can be used.
func check(cfg *config.Config, call string, stdout io.Writer) error {
	fmt.Fprintf(stdout, "configuration %s is good\n", cfg.Path)
	fmt.Fprintf(stdout, "page      %s, %s\n", cfg.Listen, cfg.UI)
	for _, app := range cfg.Apps {
		fmt.Fprintf(stdout, "lane      %s\n", app)
	}
	for _, app := range cfg.ForgottenEarly() {
		fmt.Fprintf(stdout, "warning   %s: retention (%s) is shorter than its window (%s): a recall that ended well and is enqueued again after it is called a second time\n",
			app.Lane(), cfg.Retention, app.Window)
	}
	for _, app := range cfg.BeyondVendor() {
		spec, _ := providers.Lookup(app.Provider)
		fmt.Fprintf(stdout, "warning   %s: window (%s) is longer than the vendor's own (%s): what is older than that the vendor refuses\n",
			app.Lane(), app.Window, spec.Window)
	}
	err := ping(cfg)
	if err != nil {
		fmt.Fprintf(stdout, "redis     %s: %v\n", redisconn.Describe(cfg.Redis), err)
		err = errors.New("redis does not answer")
	} else {
		fmt.Fprintf(stdout, "redis     %s answers\n", redisconn.Describe(cfg.Redis))
	}
	if call == "" {
		return err
	}
	return errors.Join(err, callEach(cfg, call, stdout))
}

func ping(cfg *config.Config) error {
	rdb, err := redisconn.New(cfg.Redis)
	if err != nil {
		return err
	}
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	return rdb.Ping(ctx).Err()
}

// callEach makes one harmless call for each app that was asked for, and says whether its credentials work.
func callEach(cfg *config.Config, which string, stdout io.Writer) error {
	var broken []string
	found := false
	for _, app := range cfg.Apps {
		named := which == app.Lane()
		found = found || named
		if which != allLanes && !named {
			continue
		}
		if app.Provider == providers.RongCloud && !named {
			fmt.Fprintf(stdout, "call      %s: not called, its calls are few; --call=%s does\n", app.Lane(), app.Lane())
			continue
		}
		says, ok := harmless(app)
		fmt.Fprintf(stdout, "call      %s: %s\n", app.Lane(), says)
		if !ok {
			broken = append(broken, app.Lane())
		}
	}
	if which != allLanes && !found {
		return usageError{fmt.Errorf("--call=%s: there is no such lane; write provider:app", which)}
	}
	if len(broken) > 0 {
		return fmt.Errorf("the call did not work for %s", strings.Join(broken, ", "))
	}
	return nil
}

// harmless asks the vendor to recall a message that cannot exist. Every answer about the message says that the account works.
func harmless(app config.App) (says string, ok bool) {
	p, err := registry.Build(app)
	if err != nil {
		return err.Error(), false
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), app.Timeout)
	defer cancel()
	_, err = p.Recall(ctx, noSuchMessage(app.Provider))
	f := providers.AsFault(err)
	if f == nil {
		return "the credentials work (the vendor even accepted an id that cannot exist)", true
	}
	switch f.Kind {
	case providers.Credentials:
		return "the vendor refuses the credentials: " + f.Error(), false
	case providers.Misconfigured:
		return "this is not the vendor's API, check base_url: " + f.Error(), false
	case providers.Unavailable:
		return "the vendor cannot be reached or does not answer: " + f.Error(), false
	case providers.Throttled:
		return "the account is throttled, so its credentials were probably accepted: " + f.Error(), true
	}
	return "the credentials work (" + f.Error() + ", as it should be for an id that cannot exist)", true
}

func noSuchMessage(provider string) providers.Request {
	r := providers.Request{CorrelationID: "recallq-check-config"}
	switch provider {
	case providers.Jiguang:
		r.MessageID = "v:1t:1000000000p:0n:0"
	case providers.EngageLab:
		r.MessageID = "0"
	case providers.TIMPush:
		r.MessageID = "00000000_00000000_0_0_0"
	case providers.TIMChat:
		r.MessageID, r.From, r.To = "0_0_1000000000", "recallq-check", "recallq-check"
	case providers.RongCloud:
		r.MessageID, r.From = "0000-0000-0000-0000", "recallq-check"
	}
	return r
}
