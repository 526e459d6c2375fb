package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/inbox"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/ops"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/internal/registry"
	"github.com/recallq/recallq/internal/version"
	"github.com/recallq/recallq/internal/worker"
	"github.com/recallq/recallq/providers"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // something failed while running
	exitUsage   = 2 // the command line or the configuration is wrong
)

const (
	redisRetry   = time.Second             // how often an unreachable Redis is tried again at the start
	pingTimeout  = 5 * time.Second         // how long Redis may take to answer that
	lastWrites   = 1200 * time.Millisecond // how much longer than calls in flight what is written about them may take
	pageShutdown = 2 * time.Second         // how long a stop waits for the page's requests
)

type env func(string) (string, bool)

// options are the command line's.
type options struct {
	config, listen, logFormat, logLevel string
	demo, exit, check                   bool
	call                                string
	configGiven                         bool // on the command line: a demo may run where the environment names one
}

// usageError is a fault of the command line or the configuration.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

const help = `worker carries out the recalls that producers have put into Redis, against the five vendor APIs,
until it is stopped. It serves asynqmon, a page on the queues, beside it.

  SIGTERM or SIGINT takes no more work, lets calls in flight finish and hands back the rest; a second one stops now.
  SIGHUP reads the configuration again: credentials, limits, windows and texts change while work goes on.
  Exit status: 0 after a clean stop, 1 on a failure, 2 if the command line or the configuration is wrong.`

const examples = `  worker --demo                            see it work: needs nothing installed and no configuration
  worker --check-config --config my.yaml   read and check the configuration, ping Redis, show each lane
  worker --check-config --call             and make one harmless call for each app, to try its credentials
  worker --config my.yaml --log-format json`

func run(args []string, lookup env, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	var o options
	cmd := &cobra.Command{
		Use: "worker", Short: "Take messages back", Long: help, Example: examples, Version: version.String(),
		Args: func(_ *cobra.Command, args []string) error { return o.noArgs(args) }, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.configGiven = cmd.Flags().Changed("config")
			return start(o, lookup, signals, stdout, stderr)
		},
	}
	f := cmd.Flags()
	cmd.SetVersionTemplate("worker {{.Version}}\n")
	f.StringVar(&o.config, "config", fromEnv(lookup, "RECALLQ_CONFIG", "recallq.yaml"), "the configuration `FILE` (RECALLQ_CONFIG)")
	f.StringVar(&o.listen, "listen", fromEnv(lookup, "RECALLQ_LISTEN", ""), "`ADDRESS` of the page, over the configuration's (RECALLQ_LISTEN; default 127.0.0.1:8080)")
	f.BoolVar(&o.demo, "demo", false, "run everything in this process: Redis, the simulated vendors, sample recalls of every outcome")
	f.BoolVar(&o.exit, "exit", false, "with --demo: leave once all sample recalls have ended")
	f.BoolVar(&o.check, "check-config", false, "read and check the configuration, ping Redis, print each lane, leave")
	f.StringVar(&o.call, "call", "", "with --check-config: one harmless call for each app but rongcloud's, whose calls are few; --call=`LANE` calls that one only")
	f.Lookup("call").NoOptDefVal = allLanes
	f.StringVar(&o.logFormat, "log-format", fromEnv(lookup, "RECALLQ_LOG_FORMAT", ""), "`FORMAT` of the log: console or json (RECALLQ_LOG_FORMAT; default console on a terminal, else json)")
	f.StringVar(&o.logLevel, "log-level", fromEnv(lookup, "RECALLQ_LOG_LEVEL", ""), "lowest `LEVEL` that is logged: debug, info, warn or error (RECALLQ_LOG_LEVEL; default info, in the demo error)")
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })

	err := cmd.Execute()
	if err == nil {
		return exitOK
	}
	var usage usageError
	var faults *config.Error
	if errors.As(err, &faults) {
		fmt.Fprintln(stderr, faults)
		return exitUsage
	}
	fmt.Fprintln(stderr, "worker:", err)
	if errors.As(err, &usage) {
		fmt.Fprintln(stderr, "Try: worker --help")
		return exitUsage
	}
	return exitFailure
}

func fromEnv(lookup env, name, otherwise string) string {
	if value, ok := lookup(name); ok && value != "" {
		return value
	}
	return otherwise
}

// start chooses between the demo, the check and the real thing.
func start(o options, lookup env, signals <-chan os.Signal, stdout, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return usageError{err}
	}
	if o.demo {
		return demo(o, signals, stdout, stderr)
	}
	log, err := newLog(stderr, o, zerolog.InfoLevel)
	if err != nil {
		return usageError{err}
	}
	current := &settings{lookup: lookup, listen: o.listen}
	if err := current.load(o.config); err != nil {
		return err
	}
	if err := config.CheckListen(current.cfg.Listen, current.cfg.UI); err != nil {
		return usageError{fmt.Errorf("--listen: %w", err)}
	}
	if o.check {
		return check(current.cfg, o.call, log, signals, stdout)
	}
	return serve(current, log, signals)
}

// noArgs refuses words that belong to no flag. A lane behind --call is one: its value is optional, so that it takes a '='.
func (o *options) noArgs(args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case o.call == allLanes && len(args) == 1:
		return usageError{fmt.Errorf("%q belongs to nothing; for one lane write --call=%s", args[0], args[0])}
	}
	return usageError{fmt.Errorf("%q belongs to nothing; the worker takes flags only", args[0])}
}

func (o options) validate() error {
	switch {
	case o.demo && o.configGiven:
		return errors.New("--demo has a configuration of its own; use one of --demo and --config")
	case o.exit && !o.demo:
		return errors.New("--exit goes with --demo")
	case o.call != "" && !o.check:
		return errors.New("--call goes with --check-config")
	case o.demo && o.check:
		return errors.New("--demo needs no configuration to check; use one of --demo and --check-config")
	}
	return nil
}

// serve runs the worker and its page until a signal comes.
func serve(current *settings, log zerolog.Logger, signals <-chan os.Signal) error {
	cfg := current.cfg
	rdb, err := redisconn.New(cfg.Redis)
	if err != nil {
		return usageError{err}
	}
	redis.SetLogger(redisLog{log})

	m := metrics.New()
	queue, err := redisconn.NewUnrepeated(cfg.Redis)
	if err != nil {
		return usageError{err}
	}
	back := make(chan struct{}, 1)
	link := redisconn.NewLink(tellChange(log, m, back))
	link.Watch(rdb)
	link.Watch(queue)
	w, err := newWorker(rdb, queue, current, m, link.Down, log)
	if err != nil {
		return usageError{err}
	}
	m.Watch(rdb)
	page, err := servePage(cfg, rdb, w, readiness(w, link), m, log)
	if err != nil {
		return err
	}
	defer page.close()
	looking, stopLooking := context.WithCancel(context.Background())
	defer stopLooking()
	go link.Look(looking, rdb)
	current.setLogin = page.handler.SetLogin
	reload := func() { current.reload(w, log) }
	log.Info().Str("version", version.String()).Str("redis", redisconn.Describe(cfg.Redis)).Str("page", page.url()).Int("lanes", len(cfg.Apps)).Msg("worker starts")
	warnOfWindows(cfg, cfg.Retention, log)

	started, err := startWhenRedisAnswers(w, rdb, link, cfg.Redis.RequireDurable, log, signals, reload)
	if err != nil || !started {
		return err
	}
	stopInbox := receive(rdb, log)
	for running := true; running; {
		select {
		case s := <-signals:
			if running = s == syscall.SIGHUP; running {
				reload()
				continue
			}
			log.Info().Str("signal", s.String()).Msg("worker stops: no more work is taken")
		case <-back:
			// A Redis that lost everything has no lanes, and producers refuse recalls for them.
			ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
			if err := w.Publish(ctx); err != nil {
				log.Debug().Err(err).Msg("the lanes were not published")
			}
			cancel()
		case err := <-page.failed:
			stopInbox()
			w.Stop()
			return fmt.Errorf("the page: %w", err)
		}
	}
	quit := func() bool {
		link.Hurry(time.Now().Add(w.Grace() + lastWrites))
		var wg sync.WaitGroup
		wg.Go(stopInbox)
		wg.Go(w.Stop)
		return within(w.Grace()+2*lastWrites, wg.Wait)
	}
	if err := stop(quit, log, signals); err != nil {
		// Those who are still at it use the client until the process ends.
		return err
	}
	if n := w.Unwritten(); n > 0 {
		return fmt.Errorf("stopped without redis; the outcomes of %d recalls could not be written, and they run again by recovery", n)
	}
	return errors.Join(queue.Close(), rdb.Close())
}

// warnOfWindows names the apps of whose recalls too little is known at the end of their windows, and those whose windows the vendor
// does not keep open.
func warnOfWindows(cfg *config.Config, retention time.Duration, log zerolog.Logger) {
	for _, app := range cfg.ForgottenEarly(retention) {
		log.Warn().Str("provider", app.Provider).Str("app", app.Name).Str("retention", config.Short(retention)).Str("window", config.Short(app.Window)).
			Msg("retention is shorter than the window; a recall that ended well and is enqueued again is called a second time")
	}
	for _, app := range cfg.BeyondVendor() {
		log.Warn().Str("provider", app.Provider).Str("app", app.Name).Str("window", config.Short(app.Window)).
			Msg("window is longer than the vendor's own; what is older than that the vendor refuses")
	}
}

// tellChange says once when Redis goes away, when it is for another reason, and when it is back, and then puts a token into back.
func tellChange(log zerolog.Logger, m *metrics.Metrics, back chan<- struct{}) func(redisconn.Change) {
	return func(c redisconn.Change) {
		m.RedisUp(!c.Down)
		if c.Another {
			log.Error().Err(c.Err).Msg("redis cannot be used for another reason now; nothing is called until it can")
			return
		}
		if c.Down {
			log.Error().Err(c.Err).Msg("redis does not answer; nothing is called until it does")
			return
		}
		log.Info().Str("away", c.Lasted.Round(time.Millisecond).String()).Msg("redis answers again")
		select {
		case back <- struct{}{}:
		default:
		}
	}
}

// within reports whether f has returned in time. asynq's servers wait without end for an answer to their first SUBSCRIBE.
func within(most time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}

// receive turns what other languages put into the inbox into recalls, until the returned function is called.
func receive(rdb redis.UniversalClient, log zerolog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { inbox.New(inbox.Options{Redis: rdb, Instance: instance(), Log: log}).Run(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// errLeft is why a stop is no clean one although nobody was impatient.
var errLeft = errors.New("stopped without redis; recalls in flight run again by recovery")

// stop stops in order; a second signal stops now. quit is false if it had to leave something undone.
func stop(quit func() bool, log zerolog.Logger, signals <-chan os.Signal) error {
	stopped := make(chan bool, 1)
	go func() { stopped <- quit() }()
	for {
		select {
		case clean := <-stopped:
			if !clean {
				log.Error().Msg("redis does not answer; recalls in flight run again by recovery")
				return errLeft
			}
			log.Info().Msg("worker stopped")
			return nil
		case s := <-signals:
			if s != syscall.SIGHUP {
				return errors.New("stopped by a second signal; recalls in flight run again by recovery")
			}
		}
	}
}

// startWhenRedisAnswers starts the worker, once Redis can be reached and is one that recalls can be given to. It is false if a
// signal came first; SIGHUP calls reload.
func startWhenRedisAnswers(w *worker.Worker, rdb redis.UniversalClient, link *redisconn.Link, durable bool, log zerolog.Logger, signals <-chan os.Signal, reload func()) (bool, error) {
	for said := ""; ; {
		report, err := inspect(context.Background(), rdb)
		if err == nil {
			if durable && report.Durable() != nil {
				return false, report.Durable()
			}
			err = w.Publish(context.Background())
		}
		if err == nil {
			for _, warning := range report.Warnings {
				log.Warn().Msg(warning.Text)
			}
			return true, w.Start(context.Background())
		}
		if text := err.Error(); text != said && !link.Down() { // that it is away is told already
			log.Error().Err(err).Msg("redis cannot be used; no recall is taken until it can")
			said = text
		}
		select {
		case s := <-signals:
			if s != syscall.SIGHUP {
				return false, nil
			}
			reload()
		case <-time.After(redisRetry):
		}
	}
}

func inspect(ctx context.Context, rdb redis.UniversalClient) (redisconn.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return redisconn.Inspect(ctx, rdb)
}

// newWorker builds the worker of all the configuration's lanes.
func newWorker(rdb, queue redis.UniversalClient, current *settings, m *metrics.Metrics, away func() bool, log zerolog.Logger) (*worker.Worker, error) {
	lanes, err := lanesOf(current.cfg)
	if err != nil {
		return nil, err
	}
	for _, l := range lanes {
		m.Lane(l.Spec.Name, l.App)
	}
	return worker.New(worker.Options{
		Redis: rdb, Queue: queue, Lanes: lanes, Instance: instance(), Retention: current.cfg.Retention, Metrics: m,
		Away: away, Refresh: current.refresh, Log: log,
	}), nil
}

func lanesOf(cfg *config.Config) ([]worker.Lane, error) {
	var lanes []worker.Lane
	var faults []error
	for _, app := range cfg.Apps {
		lane, err := laneOf(app)
		if err != nil {
			faults = append(faults, fmt.Errorf("app %s: %w", app.Lane(), err))
			continue
		}
		lanes = append(lanes, lane)
	}
	return lanes, errors.Join(faults...)
}

func laneOf(app config.App) (worker.Lane, error) {
	provider, err := registry.Build(app)
	if err != nil {
		return worker.Lane{}, err
	}
	spec, _ := providers.Lookup(app.Provider)
	return worker.Lane{
		Spec:        spec,
		App:         app.Name,
		Provider:    provider,
		Fingerprint: registry.Fingerprint(app),
		Window:      app.Window,
		Limits:      app.Limits,
		Timeout:     app.Timeout,
		Concurrency: app.Concurrency,
		Simulated:   app.Simulated,
		DefaultText: registry.DefaultText(app),
		Account:     registry.SharedAccount(app),
	}, nil
}

// instance tells this process from all others, also from a later one with the same host and process id.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// page is the HTTP server beside the worker.
type page struct {
	handler  *ops.Server
	listener net.Listener
	server   *http.Server
	failed   chan error
}

func pageOf(cfg *config.Config) ops.UI {
	return ops.UI{
		Enabled: cfg.UI.Enabled, ReadOnly: cfg.UI.ReadOnly, Username: cfg.UI.Username, Password: cfg.UI.Password,
	}
}

// readiness adds to the worker's why Redis is away.
func readiness(w *worker.Worker, link *redisconn.Link) func(context.Context) ops.Readiness {
	return func(ctx context.Context) ops.Readiness {
		r := w.Ready(ctx)
		if !r.Redis {
			r.RedisReason = link.Reason()
		}
		return r
	}
}

// servePage listens and serves. Listening comes before all else, so that a taken port is told at once.
func servePage(cfg *config.Config, rdb redis.UniversalClient, w *worker.Worker, ready func(context.Context) ops.Readiness, m *metrics.Metrics, log zerolog.Logger) (*page, error) {
	handler, err := ops.New(ops.Options{Redis: rdb, UI: pageOf(cfg), Ready: ready, Simulated: w.Simulated, Metrics: m.Handler(), Log: log})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("the page cannot listen on %s: %w; choose another with --listen", cfg.Listen, err)
	}
	p := &page{
		handler:  handler,
		listener: l,
		failed:   make(chan error, 1),
		server: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		},
	}
	go func() {
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.failed <- err
		}
	}()
	return p, nil
}

func (p *page) url() string { return "http://" + p.listener.Addr().String() + "/" }

func (p *page) close() {
	ctx, cancel := context.WithTimeout(context.Background(), pageShutdown)
	defer cancel()
	if p.server.Shutdown(ctx) != nil {
		_ = p.server.Close()
	}
}
