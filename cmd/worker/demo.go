package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
	"github.com/recallq/recallq/tasks"
)

const (
	// demoSDKAppID is the account of the simulator's Tencent sample.
	demoSDKAppID = 1400000000
	demoApp      = "demo"
	demoListen   = "127.0.0.1:8080"
	// demoPatience is how long all sample recalls together may take.
	demoPatience = time.Minute
)

// demo runs everything in this process. Nothing in it is a short cut: the recalls go through the producer, the queue, the
// worker and HTTP like all others. Only Redis is an embedded one, and the vendors are simulated.
func demo(o options, signals <-chan os.Signal, stdout, stderr io.Writer) error {
	log, err := newLog(stderr, o, zerolog.ErrorLevel)
	if err != nil {
		return usageError{err}
	}
	mr, err := miniredis.Run()
	if err != nil {
		return fmt.Errorf("start the embedded Redis: %w", err)
	}
	// Neither is closed: after a second signal there are still those who use them, until the process ends.
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	redis.SetLogger(redisLog{log})

	// The samples use one of RongCloud's three calls a day each, so its limits are off on both sides.
	sim, err := simulator.New(simulator.Options{Limits: map[string][]simulator.Limit{simulator.RongCloud: {}}})
	if err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	defer sim.Close()
	vendors, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	defer vendors.Close()

	cfg, taken, err := demoConfig(vendors.URL, o.listen)
	if err != nil {
		return err
	}
	m := metrics.New()
	w, err := newWorker(rdb, rdb, &settings{cfg: cfg}, m, nil, log)
	if err != nil {
		return err
	}
	m.Watch(rdb)
	page, err := servePage(cfg, rdb, w, w.Ready, m, log)
	if err != nil {
		return err
	}
	defer page.close()
	if err := w.Start(context.Background()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, `recallq demo: everything runs in this process, no message is really taken back.

  page       %s%s
  vendors    %s/ (simulated, all five)
  queue      %s (embedded Redis: it forgets everything when this stops)

`, page.url(), remark(taken), vendors.URL, mr.Addr())

	quit := func() bool {
		w.Stop()
		return true
	}
	wrong, err := play(rdb, sim, stdout, signals)
	switch {
	case errors.Is(err, errInterrupted):
		return stop(quit, log, signals)
	case err != nil:
		return errors.Join(err, stop(quit, log, signals))
	case o.exit && wrong > 0:
		return errors.Join(fmt.Errorf("%d sample recalls did not end as they should", wrong), stop(quit, log, signals))
	case o.exit:
		return stop(quit, log, signals)
	}
	fmt.Fprintf(stdout, "\nLook at %s: each queue, its retries and its archived failures. Ctrl-C ends the demo.\n", page.url())
	<-signals
	return stop(quit, log, signals)
}

// demoConfig is the configuration that a staging system would have: the simulator in the vendors' place.
// The usual address of the page may be taken.
func demoConfig(vendors, listen string) (cfg *config.Config, taken bool, err error) {
	cfg = &config.Config{Listen: listen, UI: config.UI{Enabled: true}, Retention: tasks.DefaultRetention}
	if listen == "" {
		cfg.Listen, taken = freeOr(demoListen)
	}
	if err := config.CheckListen(cfg.Listen, cfg.UI); err != nil {
		return nil, false, usageError{fmt.Errorf("--listen: %w", err)}
	}
	for _, spec := range providers.Specs() {
		app := config.App{
			Provider: spec.Name, Name: demoApp, BaseURL: vendors, Timeout: 5 * time.Second, Concurrency: 4,
			Window: spec.Window, Limits: spec.Limits, Simulated: true,
		}
		if spec.Name == providers.RongCloud {
			app.Limits = nil
		}
		settings, err := demoAccount(spec.Name)
		if err != nil {
			return nil, false, err
		}
		app.Settings = settings
		cfg.Apps = append(cfg.Apps, app)
	}
	return cfg, taken, nil
}

// remark says why the page is not where it usually is.
func remark(taken bool) string {
	if !taken {
		return ""
	}
	return " (" + demoListen + " is taken; another one is chosen with --listen)"
}

// demoAccount is the sample account that the simulator knows, in the words of the provider's configuration.
func demoAccount(provider string) (config.Settings, error) {
	for _, a := range simulator.SampleAccounts() {
		switch {
		case a.Provider == provider && provider == providers.Jiguang:
			return jiguang.Config{ChannelKey: a.Account, MasterSecret: a.Secret}, nil
		case a.Provider == provider && provider == providers.EngageLab:
			return engagelab.Config{AppKey: a.Account, MasterSecret: a.Secret}, nil
		case a.Provider == simulator.Tencent && provider == providers.TIMPush:
			return timpush.Config{SDKAppID: demoSDKAppID, SecretKey: a.Secret, Identifier: a.Identifier}, nil
		case a.Provider == simulator.Tencent && provider == providers.TIMChat:
			return timchat.Config{SDKAppID: demoSDKAppID, SecretKey: a.Secret, Identifier: a.Identifier}, nil
		case a.Provider == provider && provider == providers.RongCloud:
			return rongcloud.Config{AppKey: a.Account, AppSecret: a.Secret}, nil
		}
	}
	return nil, fmt.Errorf("the simulator has no sample account for %s", provider)
}

// freeOr returns the address, or one on a free port if it is taken: a newcomer's demo must not fail for that.
func freeOr(addr string) (free string, taken bool) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0", true
	}
	_ = l.Close()
	return addr, false
}

var errInterrupted = errors.New("interrupted")

// play enqueues the samples, tells each one's end, and prints what came of them. It returns how many ended otherwise than
// they should.
func play(rdb redis.UniversalClient, sim *simulator.Simulator, stdout io.Writer, signals <-chan os.Signal) (wrong int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), demoPatience)
	defer cancel()
	list := samples(time.Now())
	byID, err := enqueueSamples(ctx, rdb, sim, list)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(stdout, "%d recalls enqueued.\n\n", len(list))
	last := "0"
	for left := len(list); left > 0; {
		select {
		case <-signals:
			return 0, errInterrupted
		default:
		}
		streams, err := rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{tasks.OutcomesKey, last}, Block: 100 * time.Millisecond}).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return 0, fmt.Errorf("%d of %d sample recalls did not end: %w", left, len(list), err)
		}
		for _, stream := range streams {
			for _, entry := range stream.Messages {
				last = entry.ID
				if s := byID[fmt.Sprint(entry.Values["id"])]; s != nil && s.ended.outcome == "" {
					s.ended = ended{
						outcome: fmt.Sprint(entry.Values["outcome"]), code: fmt.Sprint(entry.Values["code"]),
						attempts: fmt.Sprint(entry.Values["attempts"]), err: fmt.Sprint(entry.Values["error"]),
					}
					left--
				}
			}
		}
	}
	return show(list, sim, stdout), nil
}

func enqueueSamples(ctx context.Context, rdb redis.UniversalClient, sim *simulator.Simulator, list []*sample) (map[string]*sample, error) {
	producer := tasks.NewProducer(rdb)
	cancelled, err := cancelledBatch(ctx, rdb, producer)
	if err != nil {
		return nil, err
	}
	byID := map[string]*sample{}
	for _, s := range list {
		if s.message.ID != "" {
			if err := sim.Know(s.message); err != nil {
				return nil, fmt.Errorf("sample %s, %s: %w", s.recall.Provider, s.story, err)
			}
		}
		if s.fault.Behaviour != (simulator.Behaviour{}) {
			if _, err := sim.Fault(s.fault); err != nil {
				return nil, fmt.Errorf("sample %s, %s: %w", s.recall.Provider, s.story, err)
			}
		}
		enqueue := producer.Enqueue
		if s.cancel {
			enqueue = cancelled.Enqueue
		}
		res, err := enqueue(ctx, s.recall)
		if err != nil {
			return nil, fmt.Errorf("sample %s, %s: %w", s.recall.Provider, s.story, err)
		}
		byID[res.ID] = s
	}
	return byID, cancelled.Close(ctx)
}

// cancelledBatch opens a batch for the samples that are to be cancelled, and cancels it: by hand nobody is quicker than a worker.
func cancelledBatch(ctx context.Context, rdb redis.UniversalClient, producer *tasks.Producer) (*tasks.Batch, error) {
	const name, who = "demo-cancelled", "demo"
	batch, err := producer.OpenBatch(ctx, tasks.BatchOptions{Name: name, By: who, Reason: "to show what a cancelled recall looks like"})
	if err != nil {
		return nil, err
	}
	return batch, ledger.New(rdb).Cancel(ctx, name, who, time.Now())
}

// show prints the samples and a table of outcomes, and returns how many ended otherwise than they should.
func show(list []*sample, sim *simulator.Simulator, stdout io.Writer) (wrong int) {
	calls := map[string]int{}
	for c := range sim.Calls() {
		calls[c.Provider+" "+c.MessageID]++
	}
	tw := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PROVIDER\tWHAT THE VENDOR DOES\tOUTCOME\tCODE\tATTEMPTS\tCALLS")
	for _, s := range list {
		mark := ""
		if s.ended.outcome != s.want {
			wrong++
			mark = fmt.Sprintf("\tshould be %s: %s", s.want, s.ended.err)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d%s\n", s.recall.Provider, s.story, s.ended.outcome, s.ended.code,
			s.ended.attempts, calls[s.recall.Provider+" "+s.recall.MessageID], mark)
	}
	_ = tw.Flush()
	fmt.Fprintln(stdout)
	summary(list, stdout)
	return wrong
}

// summary prints how many recalls of each provider ended how, and how many needed more than one call.
func summary(list []*sample, stdout io.Writer) {
	outcomes := []string{tasks.Recalled, tasks.AlreadyRecalled, tasks.Expired, tasks.NotFound, tasks.Rejected, tasks.Cancelled}
	var text bytes.Buffer
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "\t%s\tretried\t\n", strings.Join(outcomes, "\t"))
	for _, spec := range providers.Specs() {
		counts := map[string]int{}
		retried := 0
		for _, s := range list {
			if s.recall.Provider != spec.Name {
				continue
			}
			counts[s.ended.outcome]++
			if s.ended.attempts != "0" && s.ended.attempts != "1" {
				retried++
			}
		}
		fmt.Fprintf(tw, "%s\t", spec.Name)
		for _, o := range outcomes {
			fmt.Fprintf(tw, "%d\t", counts[o])
		}
		fmt.Fprintf(tw, "%d\t\n", retried)
	}
	_ = tw.Flush()
	_, _ = stdout.Write(text.Bytes())
	fmt.Fprintln(stdout, "\nA 0 is an outcome that the vendor documents no answer for. "+
		"Ours all five have: expired when the window closes first, and cancelled.")
}
