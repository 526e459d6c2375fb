package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/tasks"
)

func (p *program) lanesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lanes",
		Short: "Show each lane that a worker has published",
		Long: "Show each lane that a worker has published: its window, its limits, whether it is held, and when a worker was\n" +
			"last seen on it. With -o json, one object a line.",
		Example: "  enqueue lanes\n  enqueue lanes -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			rdb, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer rdb.Close()
			lanes, err := tasks.Lanes(cmd.Context(), rdb)
			if err != nil {
				return failure(err)
			}
			if asJSON {
				return p.lanesJSON(lanes)
			}
			p.lanesTable(lanes)
			return nil
		},
	}
}

func (p *program) lanesJSON(lanes []tasks.Lane) error {
	out := json.NewEncoder(p.stdout)
	for _, l := range lanes {
		if err := out.Encode(l); err != nil {
			return failure(err)
		}
	}
	return nil
}

func (p *program) lanesTable(lanes []tasks.Lane) {
	if len(lanes) == 0 {
		fmt.Fprintln(p.stdout, "no lane: no worker has ever published one in this Redis")
		return
	}
	now := p.now()
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LANE\tWINDOW\tLIMITS\tSTATE\tWORKER SEEN")
	for _, l := range lanes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Name(), shortTime(l.Window), sayLimits(l.Limits), sayLane(l, now), saySeen(l, now))
	}
	_ = w.Flush()
}

func sayLane(l tasks.Lane, now time.Time) string {
	state := "open"
	if l.Hold != "" {
		state = "held: " + l.Hold
		if l.HoldUntil.After(now) {
			state += ", next try in " + shortTime(l.HoldUntil.Sub(now))
		}
	}
	if l.Simulated {
		state += " (simulated)"
	}
	return state
}

func saySeen(l tasks.Lane, now time.Time) string {
	switch {
	case l.LastSeen.IsZero():
		return "never"
	case l.Served(now):
		return "now"
	}
	return shortTime(now.Sub(l.LastSeen)) + " ago"
}
