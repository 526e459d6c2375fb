package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
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
	From       string `json:"from,omitempty"`
	To         string `json:"to,omitempty"`
	Ref        string `json:"ref,omitempty"`
	Queue      string `json:"queue,omitempty"`
	State      string `json:"state"`
	NextTry    string `json:"next_try,omitempty"`
	LaneState  string `json:"lane_state,omitempty"` // of an open recall whose lane is not open
	Outcome    string `json:"outcome,omitempty"`
	Code       string `json:"code,omitempty"`
	Error      string `json:"error,omitempty"`
	Attempts   int    `json:"attempts"`
	Batch      string `json:"batch,omitempty"`
	Seq        int64  `json:"seq,omitempty"`
	SentAt     string `json:"sent_at,omitempty"`
	EnqueuedAt string `json:"enqueued_at,omitempty"`
	RecallBy   string `json:"recall_by,omitempty"`
	FinishedAt string `json:"finished_at,omitempty"`

	next, recallBy time.Time
	// maybe is true if a call was started whose answer is not known.
	maybe bool
	// refusals is how often the account was refused with this recall.
	refusals int
}

// The states of a recall that are spoken of: asynq's, and that of one whose task is no longer kept.
const (
	statePending   = "pending"
	stateActive    = "active"
	stateScheduled = "scheduled"
	stateRetry     = "retry"
	stateArchived  = "archived"
	stateCompleted = "completed"
	stateGone      = "gone"
)

func (p *program) statusCommand() *cobra.Command {
	var r tasks.Recall
	cmd := &cobra.Command{
		Use:   "status TASK_ID | --provider P [--app A] MESSAGE_ID",
		Short: "Show how one recall stands",
		Long: "Show how one recall stands, by its task id or by what makes it the same recall: provider, app and message id,\n" +
			"for timchat also --from and --to, for rongcloud also --from. Ended recalls are known for 24 hours or longer,\n" +
			"those of a batch that failed for as long as the batch is kept.",
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
	p.completeNames(cmd)
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
	b, err := p.openBook(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	lanes, err := b.lanes(ctx)
	if err != nil {
		return b.failure(err)
	}
	now, err := b.now(ctx)
	if err != nil {
		return err
	}
	id := word
	if r.Provider != "" {
		r.MessageID = word
		if r.App, err = onlyApp(r, lanes); err != nil {
			return err
		}
		id = r.ID()
	}
	s, err := find(ctx, b.rdb, id)
	if err == nil && s != nil {
		err = s.lookAtLane(ctx, b.rdb, lanes, now)
	}
	switch {
	case err != nil:
		return b.failure(err)
	case s == nil:
		return failure(fmt.Errorf("%s: no such recall; it was never enqueued, or ended so long ago that it is forgotten", id))
	case asJSON:
		return json.NewEncoder(p.stdout).Encode(s)
	}
	return p.statusTable(ctx, b, s, now)
}

func checkStatus(r tasks.Recall, word string) error {
	if r.Provider == "" {
		provider, hash, _ := strings.Cut(word, "_")
		if _, known := providers.Lookup(provider); !known || len(hash) != 32 {
			return fmt.Errorf("%q is no task id; for a message id also give --provider", word)
		}
		return nil
	}
	spec, err := checkProvider(r.Provider)
	if err != nil {
		return err
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
	var apps, others []string
	for _, l := range lanes {
		switch {
		case l.Provider == r.Provider && neverServed(l):
			others = append(others, l.App)
		case l.Provider == r.Provider:
			apps = append(apps, l.App)
		}
	}
	if len(apps) == 0 { // as the producer does, only without a published one
		apps = others
	}
	switch len(apps) {
	case 0:
		return "", fmt.Errorf("--app is missing, and no worker has published an app of %s", r.Provider)
	case 1:
		return apps[0], nil
	}
	return "", fmt.Errorf("--app is missing, and %s has several: %s", r.Provider, shown(strings.Join(apps, ", ")))
}

// find looks a task up in all queues of its provider, then among the failures that batches keep. It is nil if nothing is known
// of it.
func find(ctx context.Context, rdb redis.UniversalClient, id string) (*standingOf, error) {
	task, err := findTask(ctx, rdb, id)
	if err != nil {
		return nil, err
	}
	if task != nil {
		return describe(ctx, rdb, task)
	}
	batches, err := rdb.ZRevRange(ctx, tasks.BatchesKey, 0, -1).Result()
	if err != nil {
		return nil, err
	}
	for _, batch := range batches {
		if f, found, err := tasks.FailureIn(ctx, rdb, batch, id); err != nil || found {
			return describeFailure(f), err
		}
	}
	return nil, nil
}

func standingOfRecall(id string, r tasks.Recall) *standingOf {
	return &standingOf{
		ID: id, Provider: r.Provider, App: r.App, MessageID: r.MessageID, From: r.From, To: r.To, Ref: r.Ref, Batch: r.Batch, Seq: r.Seq,
		SentAt: stamp(r.SentAt), EnqueuedAt: stamp(r.EnqueuedAt), RecallBy: stamp(r.RecallBy), recallBy: r.RecallBy,
	}
}

func (s *standingOf) end(o tasks.Outcome) {
	s.Outcome, s.Code, s.Attempts, s.FinishedAt = o.Outcome, o.Code, o.Attempts, stamp(o.FinishedAt)
}

func describe(ctx context.Context, rdb redis.UniversalClient, task *seenTask) (*standingOf, error) {
	state, err := ledger.New(rdb).Look(ctx, ledger.Task{Queue: task.queue, ID: task.id})
	if err != nil {
		return nil, err
	}
	state = state.WithMarks(task.message.headers)
	// What cannot be read of a payload stays empty: its recall ends as rejected, which the outcome says.
	r, _ := tasks.Decode(task.message.payload)
	if r.Provider == "" {
		r.Provider, r.App, _, _ = tasks.ParseQueue(task.queue)
	}
	s := standingOfRecall(task.id, r)
	s.Queue, s.State, s.Error, s.Attempts = task.queue, task.state, state.Error, state.Attempts
	s.maybe, s.refusals = state.Maybe, state.Refusals
	s.next, s.NextTry = task.next, stamp(task.next)
	if state.Outcome != nil {
		s.end(*state.Outcome)
	}
	if s.Error == "" && !tasks.Succeeded(s.Outcome) {
		s.Error = providers.Line(task.message.lastError, providers.MaxMessage)
	}
	return s, nil
}

func describeFailure(f tasks.Failure) *standingOf {
	s := standingOfRecall(f.ID, f.Recall)
	s.State, s.Error = stateGone, f.Error
	s.end(f.Outcome)
	return s
}

// open reports whether the recall has not ended.
func (s *standingOf) open() bool {
	return s.Outcome == "" && s.State != stateArchived && s.State != stateCompleted
}

// lookAtLane finds what keeps an open recall's lane from making calls.
func (s *standingOf) lookAtLane(ctx context.Context, rdb redis.UniversalClient, lanes []tasks.Lane, now time.Time) error {
	i := slices.IndexFunc(lanes, func(l tasks.Lane) bool { return l.Provider == s.Provider && l.App == s.App })
	if !s.open() || i < 0 {
		return nil
	}
	status, err := lane.ReadBrief(ctx, rdb, lanes[i], now)
	if err != nil {
		return err
	}
	s.LaneState = laneStanding{laneView: viewOf(lanes[i], status, now)}.keeps(s.Queue, now)
	return nil
}

// keeps says what keeps the recalls of one of the lane's queues waiting; empty if nothing does.
func (v laneStanding) keeps(queue string, now time.Time) string {
	var parts []string
	if state := v.state(now); state != stateOpen && state != statePaused && state != stateUnserved {
		parts = append(parts, v.sayState(state, now))
		if v.Hold.Says != "" {
			parts = append(parts, v.Hold.Says)
		}
	}
	for _, q := range []lane.Queue{v.Urgent, v.Bulk} {
		if q.Paused && q.Name == queue {
			parts = append(parts, "its queue is paused")
		}
	}
	if unserved := v.sayUnserved(now); unserved != "" {
		parts = append(parts, unserved)
	}
	return strings.Join(parts, "; ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return tasks.FormatTime(t)
}

func (p *program) statusTable(ctx context.Context, b *book, s *standingOf, now time.Time) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value = shown(value); value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("id", s.ID)
	line("lane", s.Provider+":"+s.App)
	line("message_id", s.MessageID)
	line("from", s.From)
	line("to", s.To)
	line("ref", s.Ref)
	line("state", s.sayState())
	line("queue", s.Queue)
	line("next_try", s.sayNext(now))
	line("code", s.Code)
	if s.open() {
		line("why", s.sayWhy())
		line("lane is", s.LaneState)
	} else {
		line("error", s.Error)
	}
	line("attempts", strconv.Itoa(s.Attempts))
	line("sent_at", s.SentAt)
	line("enqueued_at", s.EnqueuedAt)
	line("recall_by", s.sayLeft(now))
	line("finished_at", s.FinishedAt)
	line("batch", s.Batch)
	if s.Batch != "" {
		line("seq", strconv.FormatInt(s.Seq, 10))
		who, err := b.rdb.HMGet(ctx, tasks.BatchKey(s.Batch), "created_by", "reason").Result()
		if err != nil {
			return b.failure(err)
		}
		by, _ := who[0].(string)
		reason, _ := who[1].(string)
		line("by", by)
		line("reason", reason)
	}
	return w.Flush()
}

func (s *standingOf) sayState() string {
	switch {
	case s.Outcome != "" && s.State == stateGone:
		return s.Outcome + " (its task is no longer kept; this is what its batch knows)"
	case s.Outcome != "":
		return s.Outcome
	}
	switch s.State {
	case statePending:
		return "waiting in its queue"
	case stateActive:
		return "being worked on"
	case stateRetry, stateScheduled:
		return "waiting for its next try"
	}
	return "ended (" + s.State + ") without an outcome of recallq's"
}

func (s *standingOf) sayNext(now time.Time) string {
	switch {
	case s.next.IsZero():
		return ""
	case s.next.After(now):
		return fmt.Sprintf("in %s, at %s", shortTime(s.next.Sub(now)), showClock(s.next, now))
	}
	return "due, behind what waits in the queue"
}

// sayWhy says what an open recall has met so far.
func (s *standingOf) sayWhy() string {
	var parts []string
	if s.Error != "" {
		parts = append(parts, s.Error)
	}
	if s.refusals > 0 {
		parts = append(parts, "its account was refused "+plural(int64(s.refusals), "once", fmt.Sprintf("%d times", s.refusals)))
	}
	if s.maybe {
		parts = append(parts, "a call was started whose answer is not known")
	}
	return strings.Join(parts, "; ")
}

// sayLeft says when the window closes, and how much of it is left to a recall that is open.
func (s *standingOf) sayLeft(now time.Time) string {
	switch {
	case !s.open() || s.recallBy.IsZero():
		return s.RecallBy
	case s.recallBy.After(now):
		return s.RecallBy + " (" + shortTime(s.recallBy.Sub(now)) + " left)"
	}
	return s.RecallBy + " (closed; it ends as expired)"
}
