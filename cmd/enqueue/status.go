package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// standingOf is what "enqueue status" shows of one recall. The JSON keys are those of the outcome stream, with the queue
// and the state in it beside them.
type standingOf struct {
	ID         string `json:"id"`
	Provider   string `json:"provider"`
	App        string `json:"app"`
	MessageID  string `json:"message_id"`
	Ref        string `json:"ref,omitempty"`
	Queue      string `json:"queue"`
	State      string `json:"state"`
	Outcome    string `json:"outcome,omitempty"`
	Code       string `json:"code,omitempty"`
	Error      string `json:"error,omitempty"`
	Attempts   int    `json:"attempts"`
	Batch      string `json:"batch,omitempty"`
	Seq        int64  `json:"seq,omitempty"`
	SentAt     string `json:"sent_at,omitempty"`
	RecallBy   string `json:"recall_by,omitempty"`
	FinishedAt string `json:"finished_at,omitempty"`

	next time.Time
}

func (p *program) statusCommand() *cobra.Command {
	var r tasks.Recall
	cmd := &cobra.Command{
		Use:   "status TASK_ID | --provider P [--app A] MESSAGE_ID",
		Short: "Show how one recall stands",
		Long: "Show how one recall stands, by its task id or by what makes it the same recall: provider, app and message id,\n" +
			"for timchat also --from and --to, for rongcloud also --from. Ended recalls are known for 24 hours or longer.",
		Example: "  enqueue status jiguang_0f6c2f5a9d1b4e7f8a90b1c2d3e4f506\n" +
			"  enqueue status --provider timchat --app chat --from admin --to user1 31906_833502_1572869830",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one TASK_ID, or --provider and one MESSAGE_ID")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.status(cmd.Context(), r, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&r.Provider, "provider", "", fieldHelp["provider"])
	f.StringVar(&r.App, "app", "", fieldHelp["app"])
	f.StringVar(&r.From, "from", "", fieldHelp["from"])
	f.StringVar(&r.To, "to", "", fieldHelp["to"])
	completeFlags(cmd)
	return cmd
}

func (p *program) status(ctx context.Context, r tasks.Recall, word string) error {
	asJSON, err := p.common.json()
	if err != nil {
		return err
	}
	if err := checkStatus(r, word); err != nil {
		return err
	}
	rdb, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer rdb.Close()
	lanes, err := tasks.Lanes(ctx, rdb)
	if err != nil {
		return failure(err)
	}
	id := word
	if r.Provider != "" {
		r.MessageID = word
		if r.App, err = onlyApp(r, lanes); err != nil {
			return err
		}
		id = r.ID()
	}
	s, err := find(ctx, rdb, id)
	if err != nil {
		return failure(err)
	}
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	return p.statusTable(ctx, rdb, s)
}

func checkStatus(r tasks.Recall, word string) error {
	if r.Provider == "" {
		provider, hash, _ := strings.Cut(word, "_")
		if _, known := providers.Lookup(provider); !known || len(hash) != 32 {
			return fmt.Errorf("%q is no task id; for a message id also give --provider", word)
		}
		return nil
	}
	spec, known := providers.Lookup(r.Provider)
	if !known {
		return fmt.Errorf("--provider %q: use one of %s", r.Provider, strings.Join(providers.Names(), ", "))
	}
	if err := spec.CheckID(word); err != nil {
		return fmt.Errorf("message id %q %w", word, err)
	}
	for _, f := range spec.Identity {
		if f == providers.From && r.From == "" || f == providers.To && r.To == "" {
			return fmt.Errorf("--%s is missing: at %s it is part of what makes a recall the same recall", f, spec.Name)
		}
	}
	return nil
}

func onlyApp(r tasks.Recall, lanes []tasks.Lane) (string, error) {
	if r.App != "" {
		return r.App, nil
	}
	var apps []string
	for _, l := range lanes {
		if l.Provider == r.Provider {
			apps = append(apps, l.App)
		}
	}
	switch len(apps) {
	case 0:
		return "", fmt.Errorf("--app is missing, and no worker has published an app of %s", r.Provider)
	case 1:
		return apps[0], nil
	}
	return "", fmt.Errorf("--app is missing, and %s has several: %s", r.Provider, strings.Join(apps, ", "))
}

// find looks a task up in all queues of its provider.
func find(ctx context.Context, rdb redis.UniversalClient, id string) (*standingOf, error) {
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	queues, err := inspector.Queues()
	if err != nil {
		return nil, err
	}
	for _, queue := range queues {
		provider, _, _, ours := tasks.ParseQueue(queue)
		if !ours || !strings.HasPrefix(id, provider+"_") {
			continue
		}
		info, err := inspector.GetTaskInfo(queue, id)
		if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return describe(ctx, rdb, info)
	}
	return nil, fmt.Errorf("%s: no such recall; it was never enqueued, or ended so long ago that it is forgotten", id)
}

func describe(ctx context.Context, rdb redis.UniversalClient, info *asynq.TaskInfo) (*standingOf, error) {
	marks, err := rdb.HMGet(ctx, tasks.TaskKey(info.Queue, info.ID), tasks.MarkPrefix+"attempts", tasks.MarkPrefix+"error").Result()
	if err != nil {
		return nil, err
	}
	attempts, _ := marks[0].(string)
	reason, _ := marks[1].(string)
	// What cannot be read of a payload stays empty: its recall ends as rejected, which the outcome says.
	r, _ := tasks.Decode(info.Payload)
	s := &standingOf{
		ID: info.ID, Queue: info.Queue, Provider: r.Provider, App: r.App, MessageID: r.MessageID, Ref: r.Ref,
		State: info.State.String(), Error: reason, Batch: r.Batch, Seq: r.Seq,
		SentAt: stamp(r.SentAt), RecallBy: stamp(r.RecallBy), next: info.NextProcessAt,
	}
	s.Attempts, _ = strconv.Atoi(attempts) // none yet: 0
	if len(info.Result) > 0 {
		var o tasks.Outcome
		if err := json.Unmarshal(info.Result, &o); err != nil {
			return nil, err
		}
		s.Outcome, s.Code, s.Attempts, s.FinishedAt = o.Outcome, o.Code, o.Attempts, stamp(o.FinishedAt)
	}
	if s.Error == "" && !tasks.Succeeded(s.Outcome) {
		s.Error = providers.Line(info.LastErr, providers.MaxMessage)
	}
	return s, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

func (p *program) statusTable(ctx context.Context, rdb redis.UniversalClient, s *standingOf) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("id", s.ID)
	line("lane", s.Provider+":"+s.App)
	line("message_id", s.MessageID)
	line("ref", s.Ref)
	line("state", s.sayState(p.now()))
	line("code", s.Code)
	line("error", s.Error)
	line("attempts", strconv.Itoa(s.Attempts))
	line("sent_at", s.SentAt)
	line("recall_by", s.RecallBy)
	line("finished_at", s.FinishedAt)
	line("batch", s.Batch)
	if s.Batch != "" {
		who, err := rdb.HMGet(ctx, tasks.BatchKey(s.Batch), "created_by", "reason").Result()
		if err != nil {
			return failure(err)
		}
		by, _ := who[0].(string)
		reason, _ := who[1].(string)
		line("by", by)
		line("reason", reason)
	}
	return w.Flush()
}

func (s *standingOf) sayState(now time.Time) string {
	if s.Outcome != "" {
		return s.Outcome
	}
	switch s.State {
	case "pending":
		return "waiting in " + s.Queue
	case "active":
		return "being worked on"
	case "retry", "scheduled":
		if s.next.After(now) {
			return "waiting for its next try in " + shortTime(s.next.Sub(now))
		}
		return "waiting for its next try"
	}
	return "ended (" + s.State + ") without an outcome of recallq's"
}
