package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/recallq/recallq/internal/version"
)

// The exit codes. Before any row is read it is exitUsage or exitFailure; afterwards exitInterrupted goes over exitFailure
// over exitRefused over exitUnsuccessful over exitOK.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitRefused      = 3
	exitUnsuccessful = 4 // watched to its end, and some recalls of the batch did not succeed
	exitInterrupted  = 130
)

// ended is an error with the exit code that it leads to. Any other error is the usage's: exitUsage.
type ended struct {
	code int
	err  error // nil if everything has been said
}

func (e *ended) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *ended) Unwrap() error { return e.err }

func failure(err error) error { return &ended{exitFailure, err} }

// program is what the subcommands share.
type program struct {
	args           []string
	env            func(string) (string, bool)
	fromEnv        []string // the environment variables that stand for flags and are used
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	// patience is how long Redis may be away in the middle of a run.
	patience time.Duration

	common commonFlags
}

func run(ctx context.Context, args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{
		args: args, env: env, stdin: stdin, stdout: stdout, stderr: stderr,
		now: time.Now, patience: 30 * time.Second,
	}
	return p.run(ctx)
}

func (p *program) run(ctx context.Context) int {
	redis.SetLogger(silent{}) // what goes wrong is said once, by us
	root := p.rootCommand()
	root.SetArgs(p.args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	addExamples(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var end *ended
	if errors.As(err, &end) {
		if end.err != nil {
			p.complain(end.err)
		}
		return end.code
	}
	p.complain(err)
	fmt.Fprintln(p.stderr, "try: enqueue --help")
	return exitUsage
}

// complain writes an error. Several that are joined are a line each.
func (p *program) complain(err error) {
	for line := range strings.SplitSeq("enqueue: "+err.Error(), "\n") {
		fmt.Fprintln(p.stderr, printable(line))
	}
}

func (p *program) rootCommand() *cobra.Command {
	var o enqueueFlags
	root := &cobra.Command{
		Use:     "enqueue --file FILE [flags]",
		Short:   "Put recalls into the queue",
		Version: version.String(),
		Long: "Put recalls into the queue: the rows of files with --file, a few ids with \"enqueue add\".\n\n" +
			"Rows are ids (one a line), CSV with a header, or NDJSON; the fields that they lack come from the flags.\n" +
			"Running the same input again with the same --batch is safe, and is the way to resume.\n\n" +
			"Every flag can also be given as an environment variable: --time-zone as RECALLQ_TIME_ZONE, and so on;\n" +
			"--redis also as RECALLQ_REDIS_URL, which goes first; in both the URL may have a password in it.\n\n" +
			"The last line says what became of the rows: read = enqueued + duplicate + expired + invalid + failed.\n" +
			"  enqueued   new in the queue, or in the place of one that had ended without success\n" +
			"  duplicate  there already: still open, or ended well\n" +
			"  expired    refused: the recall window has closed\n" +
			"  invalid    refused: a field is wrong, or no worker serves the lane\n" +
			"  failed     not enqueued, for Redis did not take it or was away\n\n" +
			"Exit codes: 0 all rows enqueued or duplicate, 1 failure, 2 usage, configuration or empty input,\n" +
			"3 some rows refused, 4 (with --watch) some recalls of the batch did not succeed, 130 interrupted.",
		Example: "  enqueue --file ids.txt --provider jiguang --sent-at 40m --reason \"wrong price\"\n" +
			"  enqueue --file export.csv --provider timchat --app chat --columns message_id=msg_key --dry-run\n" +
			"  zcat export.ndjson.gz | enqueue --file - --batch incident-41 --rejects rejects.ndjson",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          firstWord,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.files) == 0 {
				return errors.New("nothing to do: name a file with --file, or ids with enqueue add")
			}
			return p.enqueueFiles(cmd, &o)
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd.Flags()); err != nil {
				return err
			}
			return p.setFromEnv(cmd.Flags())
		},
	}
	root.SetVersionTemplate("enqueue {{.Version}}\n")
	p.common.register(root.PersistentFlags())
	o.register(root.Flags())
	o.registerFiles(root.Flags())
	completeFlags(root)
	p.completeNames(root)
	root.AddCommand(p.addCommand(), p.lanesCommand(), p.pauseCommand(), p.resumeCommand(), p.statusCommand())
	root.AddCommand(p.watchCommand(), p.reportCommand(), p.retryCommand(), p.cancelCommand(), p.batchesCommand(), p.outcomesCommand())
	return root
}

// firstWord refuses a word where a subcommand was expected, and names the subcommand that was perhaps meant.
func firstWord(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	root.SuggestionsMinimumDistance = 2
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("there is no subcommand %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no subcommand %q; for a file use --file %s, for an id use enqueue add %s", args[0], args[0], args[0])
}

// refuseEmpty refuses flags without a value: of a script's variable that was not set, most likely.
func refuseEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if text := f.Value.String(); err == nil && (text == "" || text == "[]") {
			err = fmt.Errorf("--%s: is empty; give a value, or leave the flag out", f.Name)
		}
	})
	return err
}

// setFromEnv gives the flags that the command line does not have the values of their environment variables.
func (p *program) setFromEnv(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		value, ok := p.env(name)
		if err != nil || f.Changed || !ok || value == "" || slices.Contains([]string{"help", "version", "redis"}, f.Name) {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("the environment variable %s: %w", name, e)
			return
		}
		p.uses(name)
	})
	return err
}

// uses notes an environment variable that this run goes by.
func (p *program) uses(name string) {
	if !slices.Contains(p.fromEnv, name) {
		p.fromEnv = append(p.fromEnv, name)
	}
}

func envName(flag string) string {
	return "RECALLQ_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// silent drops what the Redis client logs.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
