package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/version"
	"github.com/recallq/recallq/providers/providertest/simulator"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // the address is taken, for example
	exitUsage   = 2 // flags or files are wrong
)

// flags are what the command line says.
type flags struct {
	listen        string
	accounts      string
	messages      string
	knowAll       bool
	mix           string
	limits        string
	limit         []string
	lockAfter     int
	lenient       bool
	latency       time.Duration
	speed         float64
	offset        time.Duration
	remoteControl bool
	printConfig   bool
	verbose       bool
}

// streams are what the program reads and writes. Results go to out, remarks to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// failure is an error that is nobody's usage.
type failure struct{ error }

// run is the program. It returns the exit code once ctx is done or SIGINT or SIGTERM came.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := command(env, streams{stdin, stdout, stderr})
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "simulator:", err)
	if errors.As(err, new(failure)) {
		return exitFailure
	}
	return exitUsage
}

func command(env func(string) (string, bool), io streams) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "simulator [flags]",
		Short: "The recall APIs of Jiguang, EngageLab, TIMPush, Tencent Chat and RongCloud, for staging, drills and tests",
		Long: `simulator serves the recall APIs of five vendors on one address: Jiguang UMS, EngageLab, Tencent TIMPush, Tencent Chat and
RongCloud. It checks credentials, keeps which messages were recalled, enforces the vendors' rate limits, and writes down
every call. Without --accounts it takes the sample accounts that --print-config shows.

While it runs, it is told what to do over HTTP, from this machine only:

  GET    /_sim/ledger      every call, as NDJSON; ?provider= ?account= ?id= ?violations=1
  DELETE /_sim/ledger      forget the calls
  GET    /_sim/stats       sums
  POST   /_sim/messages    messages that were sent, as NDJSON
  POST   /_sim/faults      what is to go wrong: code, status, body, content_type, retry_after, latency, recall, or
                           mode (reset_before, reset_after, hang, cut, drip, garbage, html, huge, redirect),
                           for a provider, account, id, times; DELETE ends it
  POST   /_sim/accounts    another secret for an account
  POST   /_sim/clock       {"advance":"25h"}
  POST   /_sim/reset       forget messages, faults and calls
  GET    /_sim/healthz`,
		Example: `  A staging setup in a minute, in two terminals:
    go run ./cmd/simulator --know-all --print-config > recallq.yaml
    go run ./cmd/worker --config recallq.yaml

  A drill with mixed outcomes, and no limits:
    go run ./cmd/simulator --know-all --limits off --latency 20ms --mix '2% unknown, 1% already, 3% internal*2, 1% lost'

  The accounts of an existing configuration, an hour a minute, and another limit:
    go run ./cmd/simulator --accounts recallq.yaml --know-all --speed 60 --limit rongcloud=1/30m,3/day

  Tencent's next two answers are 91000, Jiguang hangs, EngageLab asks for a pause:
    curl -d '{"provider":"tencent","code":"91000","times":2}' http://127.0.0.1:9999/_sim/faults
    curl -d '{"provider":"jiguang","mode":"hang"}' http://127.0.0.1:9999/_sim/faults
    curl -d '{"provider":"engagelab","status":429,"retry_after":"30","times":1}' http://127.0.0.1:9999/_sim/faults

  What was called beyond a limit:
    curl 'http://127.0.0.1:9999/_sim/ledger?violations=1'`,
		Version:           version.String(),
		Args:              cobra.NoArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), f, env, io)
		},
	}
	cmd.SetVersionTemplate("simulator {{.Version}}\n")
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.listen, "listen", "127.0.0.1:9999", "`ADDRESS` to listen on; port 0 takes a free one")
	fl.StringVar(&f.accounts, "accounts", "", "`FILE` with the accounts: a recallq.yaml, of which the apps are read")
	fl.StringVar(&f.messages, "messages", "", "`FILE` with messages that were sent, as NDJSON like POST /_sim/messages; - is standard input")
	fl.BoolVar(&f.knowAll, "know-all", false, "take every well-formed id for a message, sent when the id says so, else just now")
	fl.StringVar(&f.mix, "mix", "", "`SHARES` of those ids that end in other ways: '2% unknown, 1% already, 3% 91000*2'")
	fl.StringVar(&f.limits, "limits", "real", "the vendors' rate limits, `WHICH` is real or off")
	fl.StringArrayVar(&f.limit, "limit", nil, "other limits for a provider, or tencent for all of an SDKAppID (`PROVIDER=LIMITS`): timpush=5/1s, rongcloud=2/1h,3/day, engagelab=off; repeatable")
	fl.IntVar(&f.lockAfter, "lock-after", 0, "answer 70050 for a minute after `N` bad UserSigs in a row; 0 means never")
	fl.BoolVar(&f.lenient, "lenient", false, "accept parameters that are in no document")
	fl.DurationVar(&f.latency, "latency", 0, "how long every answer takes (`TIME`)")
	fl.Float64Var(&f.speed, "speed", 1, "how fast the vendors' clock runs (`TIMES`); 60 makes an hour a minute")
	fl.DurationVar(&f.offset, "clock-offset", 0, "how far the vendors' clock is ahead (`TIME`)")
	fl.BoolVar(&f.remoteControl, "remote-control", false, "let other machines use /_sim/, too")
	fl.BoolVar(&f.printConfig, "print-config", false, "print a recallq.yaml for this simulator on standard output once it listens")
	fl.BoolVar(&f.verbose, "verbose", false, "write every call to standard error, as in the ledger")
	return cmd
}

// serve builds the simulator and serves it until ctx is done.
func serve(ctx context.Context, f flags, env func(string) (string, bool), io streams) error {
	apps := sampleApps()
	if f.accounts != "" {
		list, err := readApps(f.accounts, env)
		if err != nil {
			return err
		}
		apps = list
	}
	opt, err := f.options(apps, io)
	if err != nil {
		return err
	}
	sim, err := simulator.New(opt)
	if err != nil {
		return err
	}
	defer sim.Close()
	if err := load(sim, f.messages, io); err != nil {
		return err
	}
	srv, err := sim.Listen(f.listen)
	if err != nil {
		return failure{cannotListen(f.listen, err)}
	}
	defer srv.Close()
	if err := announce(f, srv, apps, io); err != nil {
		return failure{err}
	}
	<-ctx.Done()
	sim.Close()
	srv.Close()
	fmt.Fprintln(io.err, "simulator: stopped;", summary(sim.Stats()))
	return nil
}

// cannotListen names the flag that helps.
func cannotListen(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: the port is taken; choose another with --listen", addr)
	}
	return fmt.Errorf("%w; choose another with --listen", err)
}

func (f flags) options(apps []app, io streams) (simulator.Options, error) {
	opt := simulator.Options{
		KnowAll: f.knowAll, LockAfter: f.lockAfter, Lenient: f.lenient, Latency: f.latency, ClockSpeed: f.speed,
		ClockOffset: f.offset, RemoteControl: f.remoteControl,
	}
	for _, a := range apps {
		opt.Accounts = append(opt.Accounts, a.account())
	}
	var err error
	if opt.Mix, err = simulator.ParseMix(f.mix); err != nil {
		return opt, fmt.Errorf("--%w", err)
	}
	if len(opt.Mix) > 0 && !f.knowAll {
		return opt, errors.New("--mix: is about ids that were never announced; give --know-all as well")
	}
	if f.speed <= 0 {
		return opt, fmt.Errorf("--speed %v: must be more than 0", f.speed)
	}
	if opt.Limits, err = parseLimits(f.limit); err != nil {
		return opt, err
	}
	switch f.limits {
	case "real":
	case "off":
		opt.NoLimits = true
		if len(f.limit) > 0 {
			return opt, errors.New("--limits off and --limit: give one of them")
		}
	default:
		return opt, fmt.Errorf("--limits %q: give real or off", f.limits)
	}
	if f.verbose {
		opt.OnCall = logTo(io.err)
	}
	return opt, nil
}

// logTo returns a function that writes calls as lines of JSON.
func logTo(w io.Writer) func(simulator.Call) {
	var mu sync.Mutex
	enc := json.NewEncoder(w)
	return func(c simulator.Call) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(c) // a log that cannot be written must not stop the calls
	}
}

func load(sim *simulator.Simulator, name string, io streams) error {
	if name == "" {
		return nil
	}
	from := io.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("--messages: %w", err)
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	n, err := sim.Load(from)
	if err != nil {
		return fmt.Errorf("--messages %s: %w", name, err)
	}
	fmt.Fprintf(io.err, "simulator: messages known: %d\n", n)
	return nil
}

// announce says where the simulator listens: on standard output, unless that takes the configuration.
func announce(f flags, srv *simulator.Server, apps []app, io streams) error {
	if f.printConfig {
		fmt.Fprintln(io.err, "simulator: listening on", srv.URL)
		return printConfig(io.out, reachable(srv.URL), apps)
	}
	if f.accounts == "" {
		fmt.Fprintln(io.err, "simulator: takes the sample accounts; --print-config prints a recallq.yaml that has them")
	}
	_, err := fmt.Fprintln(io.out, "listening on", srv.URL)
	return err
}

// reachable replaces the address of all interfaces, which nobody can call, by this machine's own.
func reachable(url string) string {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if ip, bad := netip.ParseAddr(host); err == nil && bad == nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return url
}

func summary(st simulator.Stats) string {
	var calls, violations, wrong int
	for _, p := range st.Providers {
		calls, violations, wrong = calls+p.Calls, violations+p.Violations, wrong+p.Faults
	}
	return fmt.Sprintf("calls: %d, messages recalled: %d, over a limit: %d, gone wrong on request: %d, to unknown paths: %d",
		calls+st.Stray, st.Recalled, violations, wrong, st.Stray)
}
