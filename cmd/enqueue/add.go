package main

import (
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

func (p *program) addCommand() *cobra.Command {
	var o enqueueFlags
	cmd := &cobra.Command{
		Use:   "add [flags] MESSAGE_ID...",
		Short: "Enqueue a few recalls, urgent",
		Long: "Enqueue the recalls of a few messages. They are urgent: they take their lane's next slot and wait for no\n" +
			"bulk recall. What all of them share is given by flags.\n\n" +
			"Ids of timchat, timpush and rongcloud, and some of jiguang's, have their time in them, and are refused once its\n" +
			"window has closed, whatever --sent-at says. timchat needs --from and --to as well, rongcloud --from.",
		Example: "  enqueue add --provider engagelab --sent-at 40m 1828256757\n" +
			"  enqueue add --provider jiguang --sent-at 2h --reason \"wrong price\" 4611686084120031 4611686084120032",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no MESSAGE_ID given")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			set, err := o.check(p, cmd.Flags())
			if err != nil {
				return err
			}
			if set.priority == "" {
				set.priority = tasks.Urgent
			}
			source := &idArguments{ids: ids}
			set.inputs = []string{source.key()}
			c := newConsole(p.stderr, set.progress)
			defer c.done()
			for _, flag := range set.unusedFlags(p) {
				c.say("warning: %s is not used by %s, and is left out", flag, set.row.Defaults["provider"])
			}
			return p.enqueueRows(cmd.Context(), set, c, source)
		},
	}
	o.register(cmd.Flags())
	completeFlags(cmd)
	p.completeNames(cmd)
	return cmd
}

// unusedFlags are those of the command line that no row can use: all are of one provider. What the environment says is for other commands
// too.
func (s *settings) unusedFlags(p *program) []string {
	spec, known := providers.Lookup(s.row.Defaults["provider"])
	if !known {
		return nil
	}
	var unused []string
	for _, field := range slices.Sorted(maps.Keys(s.row.Defaults)) {
		switch field {
		case "provider", "app", "sent_at", "ref":
			continue
		}
		if flag := flagOf(field); !spec.Uses(providers.Field(field)) && !slices.Contains(p.fromEnv, envName(flag)) {
			unused = append(unused, "--"+flag)
		}
	}
	return unused
}

// argumentsName is what messages call the command line as an input.
const argumentsName = "arguments"

// idArguments are the ids of a command line, as an input whose lines are the arguments.
type idArguments struct {
	ids  []string
	next int
}

func (a *idArguments) Next() (input.Item, error) {
	if a.next == len(a.ids) {
		return input.Item{}, io.EOF
	}
	a.next++
	return a.item(a.next), nil
}

func (a *idArguments) item(n int) input.Item {
	return input.Item{Input: argumentsName, Line: n, Row: tasks.IDRow(a.ids[n-1])}
}

// key is what the batch calls the arguments: those of another command are another input.
func (a *idArguments) key() string {
	items := make([]input.Item, len(a.ids))
	for i := range items {
		items[i] = a.item(i + 1)
	}
	return input.KeyOf(argumentsName, items...)
}
