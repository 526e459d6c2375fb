package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/registry"
	"github.com/recallq/recallq/providers"
)

// allLanes is what --call means without a value.
const allLanes = "all"

// check prints what the configuration comes to and whether Redis, and on request each account, can be used. A signal ends it.
func check(cfg *config.Config, call string, log zerolog.Logger, signals <-chan os.Signal, stdout io.Writer) error {
	redis.SetLogger(redisLog{log})
	ctx, cancel := untilSignal(signals)
	defer cancel()
	fmt.Fprintf(stdout, "configuration %s is good\n", cfg.Path)
	fmt.Fprintf(stdout, "page      %s, %s\n", cfg.Listen, cfg.UI)
	for _, app := range cfg.Apps {
		fmt.Fprintf(stdout, "lane      %s\n", app)
	}
	for _, app := range cfg.ForgottenEarly(cfg.Retention) {
		fmt.Fprintf(stdout, "warning   %s: retention (%s) is shorter than its window (%s): a recall that ended well and is enqueued again after it is called a second time\n",
			app.Lane(), config.Short(cfg.Retention), config.Short(app.Window))
	}
	for _, app := range cfg.BeyondVendor() {
		spec, _ := providers.Lookup(app.Provider)
		fmt.Fprintf(stdout, "warning   %s: window (%s) is longer than the vendor's own (%s): what is older than that the vendor refuses\n",
			app.Lane(), config.Short(app.Window), config.Short(spec.Window))
	}
	err := checkRedis(ctx, cfg.Redis, stdout)
	if call != "" && ctx.Err() == nil {
		err = errors.Join(err, callEach(ctx, cfg, call, stdout))
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// untilSignal returns a context that ends with the first signal.
func untilSignal(signals <-chan os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// checkRedis asks what a worker asks before it starts.
func checkRedis(ctx context.Context, o redisconn.Options, stdout io.Writer) error {
	where := redisconn.Describe(o)
	report, err := askRedis(ctx, o)
	if err != nil {
		fmt.Fprintf(stdout, "redis     %s: %s\n", where, strings.ReplaceAll(err.Error(), "\n", "; "))
		return errors.New("redis cannot be used")
	}
	fmt.Fprintf(stdout, "redis     %s answers\n", where)
	for _, w := range report.Warnings {
		fmt.Fprintf(stdout, "warning   %s\n", w)
	}
	return nil
}

func askRedis(ctx context.Context, o redisconn.Options) (redisconn.Report, error) {
	rdb, err := redisconn.New(o)
	if err != nil {
		return redisconn.Report{}, err
	}
	defer rdb.Close()
	report, err := inspect(ctx, rdb)
	if err == nil && o.RequireDurable {
		err = report.Durable()
	}
	return report, err
}

// callEach makes one harmless call for each app that was asked for, side by side, and says whether its credentials work.
func callEach(ctx context.Context, cfg *config.Config, which string, stdout io.Writer) error {
	type verdict struct {
		says string
		ok   bool
	}
	type calling struct {
		lane string
		came chan verdict
	}
	var calls []calling
	for _, app := range cfg.Apps {
		named := which == app.Lane()
		if which != allLanes && !named {
			continue
		}
		c := calling{app.Lane(), make(chan verdict, 1)}
		calls = append(calls, c)
		if app.Provider == providers.RongCloud && !named {
			c.came <- verdict{fmt.Sprintf("not called, its calls are few; --call=%s does", app.Lane()), true}
			continue
		}
		go func() {
			says, ok := harmless(ctx, app)
			c.came <- verdict{says, ok}
		}()
	}
	if len(calls) == 0 {
		return usageError{fmt.Errorf("--call=%s: there is no such lane; there are %s", which, lanesIn(cfg))}
	}
	var broken []string
	for _, c := range calls {
		select {
		case v := <-c.came:
			fmt.Fprintf(stdout, "call      %s: %s\n", c.lane, v.says)
			if !v.ok {
				broken = append(broken, c.lane)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("the call did not work for %s", strings.Join(broken, ", "))
	}
	return nil
}

func lanesIn(cfg *config.Config) string {
	var names []string
	for _, app := range cfg.Apps {
		names = append(names, app.Lane())
	}
	return strings.Join(names, ", ")
}

// harmless asks the vendor to recall a message that cannot exist. Every answer of the vendor's about the message says that the account
// works. One without a code of the vendor's may be anybody's: a proxy, or a page that says everything is fine.
func harmless(ctx context.Context, app config.App) (says string, ok bool) {
	p, err := registry.Build(app)
	if err != nil {
		return err.Error(), false
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, app.Timeout)
	defer cancel()
	receipt, err := p.Recall(ctx, noSuchMessage(app.Provider))
	f := providers.AsFault(err)
	if f == nil {
		if receipt == (providers.Receipt{}) && !app.Simulated { // EngageLab alone has no code for a success
			return "something accepts an id that cannot exist, and does not name its call; this is probably not the vendor's API, check base_url and any proxy", false
		}
		return "the credentials work (the vendor even accepted an id that cannot exist)", true
	}
	own := f.Code != "" && !strings.HasPrefix(f.Code, "HTTP ")
	switch {
	case f.Kind == providers.Unavailable:
		return "the vendor cannot be reached or does not answer: " + f.Error(), false
	case f.Kind == providers.Misconfigured:
		return "this is not the vendor's API, check base_url: " + f.Error(), false
	case f.Kind == providers.Credentials && own:
		return "the vendor refuses the credentials: " + f.Error(), false
	case f.Kind == providers.Credentials:
		return "the call is refused, by the vendor or by something on the way to it: " + f.Error(), false
	case !own:
		return "this is not the vendor's answer, check base_url and any proxy: " + f.Error(), false
	case f.Kind == providers.Throttled:
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
