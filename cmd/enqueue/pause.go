package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/tasks"
)

func (p *program) pauseCommand() *cobra.Command {
	return p.switchCommand(true, &cobra.Command{
		Use:   "pause --provider P [--app A]",
		Short: "Pause a lane: its recalls wait, and their windows go on closing",
		Long: "Pause both queues of a lane, as asynqmon does. Calls in flight finish; what waits stays where it is. Windows go\n" +
			"on closing: what is too late ends as expired also while its lane is paused. It lasts until enqueue resume.",
		Example: "  enqueue pause --provider timpush --app chat\n  enqueue pause --provider jiguang",
	})
}

func (p *program) resumeCommand() *cobra.Command {
	return p.switchCommand(false, &cobra.Command{
		Use:   "resume --provider P [--app A]",
		Short: "Let a paused lane go on",
		Long: "Let both queues of a lane go on, whoever has paused them. A lane that is held stays held: that is the vendor's\n" +
			"doing, and ends by itself (see enqueue lanes).",
		Example: "  enqueue resume --provider timpush --app chat\n  enqueue resume --provider jiguang",
	})
}

func (p *program) switchCommand(pause bool, cmd *cobra.Command) *cobra.Command {
	var provider, app string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return p.switchLane(cmd.Context(), pause, provider, app) }
	cmd.Flags().StringVar(&provider, "provider", "", fieldHelp["provider"])
	cmd.Flags().StringVar(&app, "app", "", fieldHelp["app"])
	completeFlags(cmd)
	p.completeNames(cmd)
	return cmd
}

// switched is what "pause" and "resume" did.
type switched struct {
	Lane    string   `json:"lane"`
	Paused  bool     `json:"paused"`
	Changed []string `json:"changed"` // the queues that were not so before
	Urgent  int64    `json:"urgent"`  // recalls that have not ended
	Bulk    int64    `json:"bulk"`

	view laneStanding
}

func (p *program) switchLane(ctx context.Context, pause bool, provider, app string) error {
	asJSON, err := p.common.json()
	if err != nil {
		return err
	}
	if provider == "" {
		return errors.New("--provider is missing: it says which lane is meant")
	}
	if _, err := checkProvider(provider); err != nil {
		return err
	}
	b, err := p.openBook(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	lanes, err := b.lanes(ctx)
	if err != nil {
		return b.failure(err)
	}
	l, err := findLane(lanes, provider, app)
	if err != nil {
		return err
	}
	s, err := b.switchQueues(ctx, l, pause)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	for _, line := range s.words() {
		fmt.Fprintln(p.stdout, shown(line))
	}
	return nil
}

// findLane finds a lane. Its error names those that there are.
func findLane(lanes []tasks.Lane, provider, app string) (tasks.Lane, error) {
	if app == "" {
		var err error
		if app, err = onlyApp(tasks.Recall{Provider: provider}, lanes); err != nil {
			return tasks.Lane{}, err
		}
	}
	names := make([]string, len(lanes))
	for i, l := range lanes {
		if l.Provider == provider && l.App == app {
			return l, nil
		}
		names[i] = l.Name()
	}
	known := "no worker has ever published one"
	if len(names) > 0 {
		known = "the lanes are " + shown(strings.Join(names, ", "))
	}
	return tasks.Lane{}, fmt.Errorf("there is no lane %s:%s; %s", provider, app, known)
}

func (b *book) switchQueues(ctx context.Context, l tasks.Lane, pause bool) (switched, error) {
	s := switched{Lane: l.Name(), Paused: pause, Changed: []string{}}
	now, err := b.now(ctx)
	if err != nil {
		return s, err
	}
	before, err := lane.ReadBrief(ctx, b.rdb, l, now)
	if err != nil {
		return s, b.failure(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(b.rdb)
	for _, q := range []lane.Queue{before.Urgent, before.Bulk} {
		if q.Paused == pause {
			continue
		}
		change := inspector.UnpauseQueue
		if pause {
			change = inspector.PauseQueue
		}
		// asynq's error for "it is so already" has no type; somebody may have been faster.
		if err := change(q.Name); err != nil && !strings.Contains(err.Error(), "paused") {
			return s, b.failure(err)
		}
		s.Changed = append(s.Changed, q.Name)
		if !pause { // an idle worker need not wait for its next look
			_ = b.rdb.Publish(ctx, tasks.WakeChannel, q.Name).Err()
		}
	}
	after, err := lane.ReadBrief(ctx, b.rdb, l, now)
	if err != nil {
		return s, b.failure(err)
	}
	s.Urgent, s.Bulk, s.view = after.Urgent.Open(), after.Bulk.Open(), laneStanding{laneView: b.view(l, after, now)}
	return s, nil
}

func (s switched) words() []string {
	var lines []string
	switch {
	case s.Paused && len(s.Changed) == 0:
		lines = append(lines, s.Lane+" was paused already")
	case s.Paused:
		lines = append(lines, s.Lane+" is paused; to go on: "+s.view.resume())
	case len(s.Changed) == 0:
		lines = append(lines, s.Lane+" was not paused")
	default:
		lines = append(lines, s.Lane+" goes on")
	}
	if len(s.Changed) == 1 {
		lines = append(lines, "only its queue "+s.Changed[0]+" was not so before")
	}
	lines = append(lines, "waiting: "+s.view.sayWaiting())
	if hold := s.view.Hold.Reason; !s.Paused && hold != "" {
		lines = append(lines, "it is held ("+hold+"), so that it opens when that is mended: see enqueue lanes")
	}
	return lines
}
