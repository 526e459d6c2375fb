package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/tasks"
)

const (
	// completeWithin bounds how long a person who presses tab waits for Redis.
	completeWithin = 300 * time.Millisecond
	// mostCompletions is how many batches are offered, the newest.
	mostCompletions = 100
)

// addExamples gives the subcommands that cobra brings what all of ours have. They print to where the root command prints by then.
func addExamples(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for name, example := range map[string]string{
		"help":                  "enqueue help\n  enqueue help add",
		"completion":            "source <(enqueue completion bash)\n  enqueue completion zsh --help",
		"completion bash":       "source <(enqueue completion bash)",
		"completion zsh":        "source <(enqueue completion zsh)",
		"completion fish":       "enqueue completion fish | source",
		"completion powershell": "enqueue completion powershell | Out-String | Invoke-Expression",
	} {
		if cmd, _, err := root.Find(strings.Fields(name)); err == nil && cmd != root {
			cmd.Example = "  " + example
		}
	}
}

// completeNames offers for --batch and --app, where a command has them, what there is in Redis.
func (p *program) completeNames(cmd *cobra.Command) {
	for flag, complete := range map[string]cobra.CompletionFunc{"batch": p.completeBatchFlag, "app": p.completeApp} {
		if cmd.Flag(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, complete)
		}
	}
}

// completeBatch offers the names of batches as the one argument, newest first.
func (p *program) completeBatch(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completeBatchFlag(cmd, nil, word)
}

func (p *program) completeBatchFlag(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names := p.complete(cmd, func(ctx context.Context, b *book) []string {
		names, _ := b.rdb.ZRevRange(ctx, tasks.BatchesKey, 0, mostCompletions-1).Result()
		return names
	})
	names = slices.DeleteFunc(names, func(name string) bool { return tasks.CheckBatch(name) != nil })
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeApp offers the apps that workers have published, those of --provider if it is given.
func (p *program) completeApp(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	apps := p.complete(cmd, func(ctx context.Context, b *book) []string {
		lanes, _ := tasks.Lanes(ctx, b.rdb)
		var apps []string
		provider := ""
		if f := cmd.Flag("provider"); f != nil { // also as its environment variable
			provider = f.Value.String()
		}
		for _, l := range lanes {
			if (provider == "" || l.Provider == provider) && tasks.CheckApp(l.App) == nil && !slices.Contains(apps, l.App) {
				apps = append(apps, l.App)
			}
		}
		return apps
	})
	return apps, cobra.ShellCompDirectiveNoFileComp
}

// complete asks Redis. Whatever goes wrong, nothing is offered, and nothing is said in the middle of a command line.
func (p *program) complete(cmd *cobra.Command, ask func(context.Context, *book) []string) []string {
	if p.setFromEnv(cmd.Flags()) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	b, err := p.untriedBook()
	if err != nil {
		return nil
	}
	defer b.close()
	return ask(ctx, b)
}
