package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// commonFlags are those of every subcommand.
type commonFlags struct {
	redis, redisPasswordFile, config, output string
}

func (c *commonFlags) register(f *pflag.FlagSet) {
	f.StringVar(&c.redis, "redis", "", "where Redis is, as a `URL` without a password (default redis://127.0.0.1:6379/0); a user name goes with --redis-password-file: redis://user@host/0")
	f.StringVar(&c.redisPasswordFile, "redis-password-file", "", "`FILE` that holds the password of Redis")
	f.StringVar(&c.config, "config", "", "configuration `FILE` to take Redis from (default recallq.yaml, if there is one)")
	f.StringVarP(&c.output, "output", "o", "table", "`FORM` of the results: table or json; report also knows csv and ndjson")
}

// json reports whether the results are wanted as JSON.
func (c *commonFlags) json() (bool, error) {
	switch c.output {
	case "table":
		return false, nil
	case "json":
		return true, nil
	}
	return false, fmt.Errorf("--output %q: use table or json", c.output)
}

// enqueueFlags are those of enqueue --file and enqueue add, as they were given.
type enqueueFlags struct {
	files                           []string
	format, timeZone                string
	columns                         []string
	batch, reason, by               string
	priority, rejects, progress     string
	dryRun, allowUnserved, watch    bool
	yes, confirm                    bool
	isAdmin, isDelete, noLastUpdate bool
	fields                          map[string]*string
}

var fieldHelp = map[string]string{
	"provider":           "`NAME` of the vendor API: " + strings.Join(providers.Names(), ", "),
	"app":                "`NAME` of the account at the provider; not needed where it has only one",
	"sent_at":            "when the messages were sent: RFC 3339, Unix seconds or milliseconds, or an age such as 40m (`TIME`)",
	"from":               "timchat: From_Account, rongcloud: fromUserId (`ACCOUNT`)",
	"to":                 "timchat: To_Account (`ACCOUNT`)",
	"offline_push_title": "timpush: `TEXT` that replaces the notification's title",
	"offline_push_desc":  "timpush: `TEXT` that replaces the notification's body",
	"extra":              "rongcloud: extra `TEXT`",
	"ref":                "your own reference, returned with every outcome (`TEXT`)",
}

func (o *enqueueFlags) register(f *pflag.FlagSet) {
	o.fields = make(map[string]*string, len(fieldHelp))
	for _, field := range slices.Sorted(maps.Keys(fieldHelp)) {
		o.fields[field] = f.String(flagOf(field), "", fieldHelp[field])
	}
	f.BoolVar(&o.isAdmin, "is-admin", false, "rongcloud: the recall is an administrator's")
	f.BoolVar(&o.isDelete, "is-delete", false, "rongcloud: also delete the message on the devices")
	f.BoolVar(&o.noLastUpdate, "disable-update-last-msg", false, "rongcloud: leave the conversation's last message as it is")
	f.StringVar(&o.timeZone, "time-zone", "", "`ZONE` of times that name none: Asia/Shanghai, +08:00, UTC")
	f.StringVar(&o.batch, "batch", "", "`NAME` of the batch that the recalls belong to (default: one is made up and printed)")
	f.StringVar(&o.reason, "reason", "", "why the messages are recalled, kept with the batch (`TEXT`)")
	f.StringVar(&o.by, "by", "", "who recalls them, kept with the batch (`WHO`; default user@host)")
	f.StringVar(&o.priority, "priority", "", "`PRIORITY`: urgent or bulk (default: add and files up to 1,000 rows urgent, else bulk; give it together with --confirm so that rows of a slow pipe go in at once)")
	f.BoolVar(&o.dryRun, "dry-run", false, "check every row, enqueue nothing")
	f.StringVar(&o.rejects, "rejects", "", "`FILE` for the rows that are refused, to be mended and fed back in")
	f.BoolVar(&o.allowUnserved, "allow-unserved", false, "also enqueue for lanes that no worker has ever published")
	f.BoolVar(&o.yes, "yes", false, "answer the question that comes after 10,000 rows on a terminal, and go on although Redis's memory is short")
	f.BoolVar(&o.confirm, "confirm", false, "go on after 10,000 rows without a question, also where there is no terminal")
	f.BoolVar(&o.watch, "watch", false, "then watch the batch until it has ended, as enqueue watch does")
	f.StringVar(&o.progress, "progress", "auto", "`WHEN` to show progress on standard error: auto (on a terminal), always or never")
}

func (o *enqueueFlags) registerFiles(f *pflag.FlagSet) {
	f.StringArrayVar(&o.files, "file", nil, "input `FILE`, gzipped or not; - is standard input; may be repeated")
	f.StringVar(&o.format, "format", string(input.Auto), "`FORMAT` of the input: auto, ndjson, csv or ids")
	f.StringSliceVar(&o.columns, "columns", nil, "`FIELD=COLUMN,...`: what other names columns and keys have, like message_id=msg,sent_at=created_at")
}

func flagOf(field string) string { return strings.ReplaceAll(field, "_", "-") }

// settings are enqueueFlags, checked.
type settings struct {
	files         []string
	inputs        []string // as the batch knows them
	format        input.Format
	columns       map[string]string // their name to our field
	row           tasks.RowOptions
	batch         string
	generated     bool // batch was made up
	reason, by    string
	priority      tasks.Priority // "" until the rows have been counted
	dryRun        bool
	rejects       string
	allowUnserved bool
	watch         bool
	yes, confirm  bool
	progress      string
	json          bool
	redis         redisconn.Options
	// sentAt is the absolute time of an age that was given: a run that is resumed later must mean the same time.
	sentAt      string
	sentAtGiven string // as it was typed
	age         time.Duration
}

// check reads the flags. Its errors are usage.
func (o *enqueueFlags) check(p *program, flags *pflag.FlagSet) (*settings, error) {
	now := p.now()
	s := &settings{
		files: o.files, batch: o.batch, reason: o.reason, by: o.by, dryRun: o.dryRun, rejects: o.rejects,
		allowUnserved: o.allowUnserved, watch: o.watch, yes: o.yes, confirm: o.confirm, progress: o.progress, format: input.Auto,
	}
	var err error
	if s.json, err = p.common.json(); err != nil {
		return nil, err
	}
	if s.redis, err = p.redisOptions(); err != nil {
		return nil, err
	}
	if o.format != "" {
		if s.format, err = input.ParseFormat(o.format); err != nil {
			return nil, fmt.Errorf("--format %w", err)
		}
	}
	if s.columns, err = parseColumns(o.columns); err != nil {
		return nil, err
	}
	if s.row.TimeZone, err = parseZone(o.timeZone); err != nil {
		return nil, err
	}
	if err := o.defaults(s, flags, now); err != nil {
		return nil, err
	}
	s.priority = tasks.Priority(o.priority)
	if err := cmp.Or(checkPriority(o.priority), checkProgress(s.progress)); err != nil {
		return nil, err
	}
	if !isOneLine(s.reason) || !isOneLine(s.by) {
		return nil, errors.New("--reason and --by: use one line of at most 1,024 bytes")
	}
	if s.by == "" {
		s.by = userAtHost()
	}
	switch {
	case s.batch == "" && !s.dryRun:
		s.batch, s.generated = newBatchName(now), true
	case s.batch != "":
		if err := tasks.CheckBatch(s.batch); err != nil {
			return nil, fmt.Errorf("--batch %q %w", s.batch, err)
		}
	}
	return s, nil
}

// defaults takes over the fields that were given as flags, and checks what can be checked without a row.
func (o *enqueueFlags) defaults(s *settings, flags *pflag.FlagSet, now time.Time) error {
	s.row.Defaults = make(map[string]string)
	for field, value := range o.fields {
		if *value != "" {
			s.row.Defaults[field] = *value
		}
	}
	for field, value := range map[string]bool{"is_admin": o.isAdmin, "is_delete": o.isDelete, "disable_update_last_msg": o.noLastUpdate} {
		if flags.Changed(flagOf(field)) {
			s.row.Defaults[field] = fmt.Sprint(value)
		}
	}
	if provider, ok := s.row.Defaults["provider"]; ok {
		if _, err := checkProvider(provider); err != nil {
			return err
		}
	}
	if app, ok := s.row.Defaults["app"]; ok {
		if err := tasks.CheckApp(app); err != nil {
			return fmt.Errorf("--app %q %w", app, err)
		}
	}
	given, ok := s.row.Defaults["sent_at"]
	if !ok {
		return nil
	}
	s.sentAtGiven = given
	sentAt, refused := tasks.ParseSentAt(given, s.row.TimeZone, now)
	if refused != nil {
		return fmt.Errorf("--sent-at %q %s", given, refused.Reason)
	}
	s.row.Defaults["sent_at"] = sentAt.UTC().Format(time.RFC3339Nano)
	if age, is := tasks.ParseAge(given); is {
		s.age, s.sentAt = age, s.row.Defaults["sent_at"]
	}
	return nil
}

// countAge counts an age that was given back from now, by a clock that is better than the computer's.
func (s *settings) countAge(now time.Time) {
	if s.sentAt == "" {
		return
	}
	s.sentAt = now.Add(-s.age).Truncate(time.Millisecond).UTC().Format(time.RFC3339Nano)
	s.row.Defaults["sent_at"] = s.sentAt
}

func checkPriority(priority string) error {
	switch tasks.Priority(priority) {
	case "", tasks.Urgent, tasks.Bulk:
		return nil
	}
	return fmt.Errorf("--priority %q: use urgent or bulk", priority)
}

func checkProgress(progress string) error {
	if !slices.Contains([]string{"auto", "always", "never"}, progress) {
		return fmt.Errorf("--progress %q: use auto, always or never", progress)
	}
	return nil
}

func checkProvider(name string) (providers.Spec, error) {
	spec, known := providers.Lookup(name)
	if !known {
		return spec, fmt.Errorf("--provider %q: use one of %s", name, strings.Join(providers.Names(), ", "))
	}
	return spec, nil
}

func parseColumns(pairs []string) (map[string]string, error) {
	columns := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		ours, theirs, ok := strings.Cut(pair, "=")
		ours, theirs = strings.TrimSpace(ours), strings.TrimSpace(theirs)
		if !ok || ours == "" || theirs == "" {
			return nil, fmt.Errorf("--columns %q: write FIELD=COLUMN, like message_id=msg", pair)
		}
		field, known := tasks.Canonical(ours)
		if !known {
			return nil, fmt.Errorf("--columns %q: %s is no field; the fields are %s", pair, ours, strings.Join(tasks.Fields(), ", "))
		}
		if _, twice := columns[theirs]; twice {
			return nil, fmt.Errorf("--columns: the column %q is named twice", theirs)
		}
		for _, earlier := range columns {
			if earlier == field {
				return nil, fmt.Errorf("--columns: the field %s is named twice", field)
			}
		}
		columns[theirs] = field
	}
	return columns, nil
}

// parseZone reads a zone's name or offset; "" is none.
func parseZone(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil
	}
	if t, err := time.Parse("-07:00", name); err == nil {
		return t.Location(), nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("--time-zone %q: use a name like Asia/Shanghai or an offset like +08:00", name)
	}
	return zone, nil
}

// maxReason is how long --reason and --by may be, in bytes.
const maxReason = 1024

func isOneLine(text string) bool {
	return len(text) <= maxReason && providers.Line(text, maxReason) == text
}

func userAtHost() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return providers.Line(name+"@"+host, maxReason)
}

// completeFlags offers the values of flags that have only a few. Their errors can only be about flags that do not exist.
func completeFlags(cmd *cobra.Command) {
	for flag, values := range map[string][]string{
		"provider": providers.Names(),
		"format":   {"auto", "ndjson", "csv", "ids"},
		"priority": {string(tasks.Urgent), string(tasks.Bulk)},
		"progress": {"auto", "always", "never"},
		"output":   {"table", "json"},
	} {
		if cmd.Flag(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}
