package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/internal/ledger"
	"github.com/recallq/recallq/internal/metrics"
	"github.com/recallq/recallq/internal/redisconn"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

const (
	// newerWait is how long a recall of a newer version waits for a worker that knows it, before it is offered again.
	newerWait = time.Minute
	// brokenWait is how long a recall waits when Redis fails in the middle of it.
	brokenWait = time.Second
	// cancelWithin is how old the news about a batch may be when a call starts.
	cancelWithin = 500 * time.Millisecond
	// longestVisit bounds the waits in place of one recall together. It stays far below asynq's timeout for the task.
	longestVisit = 2 * time.Minute
)

// handler carries out the recalls of one queue.
type handler struct {
	*station
	dequeuer *lane.Dequeuer
	priority tasks.Priority
	unserved bool // it only ends recalls of a lane that no worker serves
}

// visit is one recall on its way through the handler.
type visit struct {
	task    ledger.Task
	recall  tasks.Recall
	marks   map[string]string // of a task that this one was moved from
	state   ledger.State
	since   time.Time
	looked  time.Time // when the record was last read
	called  bool      // a call was made in this visit
	request string    // the vendor's own id of the last call, which its support asks for
	renewal bool      // the next call is the free one after a renewed signature
	log     zerolog.Logger
}

// ProcessTask takes one recall through the six steps; the last four once for each call.
func (h *handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	v, err := h.decode(ctx, t)
	if err != nil {
		return err
	}
	for {
		if done, err := h.guard(ctx, v); done {
			return err
		}
		if h.unserved { // the batch was opened again since the recall was found
			return deferred("no worker serves its lane", 0)
		}
		pass, done, err := h.limit(ctx, v)
		if done {
			return err
		}
		made := h.call(ctx, v, pass)
		decision := h.decide(v, pass, made)
		if again, err := h.record(ctx, v, pass, made, decision); !again {
			return err
		}
	}
}

// decode is the first step: the payload becomes a recall of this lane.
func (h *handler) decode(ctx context.Context, t *asynq.Task) (*visit, error) {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	v := &visit{task: ledger.Task{Queue: queue, ID: id}, marks: t.Headers(), since: time.Now()}
	r, err := tasks.Decode(t.Payload())
	v.recall = r
	v.log = h.log.With().Str("task", id).Str("batch", r.Batch).Str("ref", r.Ref).Logger()
	switch {
	case errors.Is(err, tasks.ErrNewerVersion):
		return nil, h.newer(ctx, v)
	case err != nil:
		v.recall.Provider, v.recall.App = h.Spec.Name, h.App
		return nil, h.end(ctx, v, retry.Rejected, "", "the payload cannot be read: "+err.Error())
	case r.Provider != h.Spec.Name || r.App != h.App:
		return nil, h.end(ctx, v, retry.Rejected, "", fmt.Sprintf("the payload is for %s:%s, but waits in the queue %s", r.Provider, r.App, queue))
	}
	return v, nil
}

// newer lets a recall of a newer version wait for a worker that knows it, as long as its window is open.
func (h *handler) newer(ctx context.Context, v *visit) error {
	const reason = "the payload is of a newer version than this worker knows"
	h.metrics.Deferral(h.Spec.Name, h.App, metrics.Newer)
	left := v.recall.RecallBy.Sub(h.lane.Now())
	if !v.recall.RecallBy.IsZero() && left <= 0 {
		v.recall.Provider, v.recall.App = h.Spec.Name, h.App
		return h.end(ctx, v, retry.Expired, "", "the recall window has closed; "+reason)
	}
	delay := newerWait
	if !v.recall.RecallBy.IsZero() {
		delay = min(delay, left)
	}
	return deferred(reason, delay)
}

// guard is the second step: no call after an outcome, none for a cancelled batch, and none when the window has closed.
func (h *handler) guard(ctx context.Context, v *visit) (done bool, err error) {
	v.looked = time.Now()
	if v.state, err = h.ledger.LookIn(ctx, v.task, v.recall.Batch); err != nil {
		return true, h.broken(v, err)
	}
	v.state = v.state.WithMarks(v.marks)
	if v.state.Outcome != nil {
		rerun, err := h.rerun(v)
		if err != nil {
			return true, h.broken(v, err)
		}
		if !rerun {
			return true, h.ended(ctx, v)
		}
		if err := h.ledger.Reopen(ctx, v.task, v.recall); err != nil {
			return true, h.broken(v, err)
		}
		v.state = ledger.State{Attempts: v.state.Attempts, Maybe: v.state.Maybe, Cancelled: v.state.Cancelled}
	}
	if v.state.Cancelled != "" {
		return true, h.end(ctx, v, tasks.Cancelled, v.state.Code, v.state.Cancelled)
	}
	if !h.lane.Now().Before(v.recall.RecallBy) {
		return true, h.expired(ctx, v)
	}
	return false, nil
}

// rerun reports whether a person runs an ended recall again. The task has then been archived with our words for its outcome;
// if a worker died between the outcome and the archive, it has not.
func (h *handler) rerun(v *visit) (bool, error) {
	if tasks.Succeeded(v.state.Outcome.Outcome) {
		return false, nil
	}
	info, err := h.inspector.GetTaskInfo(v.task.Queue, v.task.ID)
	if err != nil {
		return false, err
	}
	outcome, reason := v.state.Outcome.Outcome, v.state.Error
	// A worker of before has archived it with the vendor's words as they were.
	return info.LastErr == archivedText(outcome, discreet(v.recall, reason)) || info.LastErr == archivedText(outcome, reason), nil
}

// ended finishes a recall whose outcome was written by a worker that died before asynq knew of it.
func (h *handler) ended(ctx context.Context, v *visit) error {
	e := ledger.Entry{ID: v.task.ID, Recall: v.recall, Outcome: *v.state.Outcome, Error: v.state.Error, Maybe: v.state.Maybe}
	if err := h.ledger.Record(ctx, v.task, e); err != nil {
		return h.broken(v, err)
	}
	v.log.Info().Str("outcome", e.Outcome.Outcome).Msg("recall had ended before, the queue is told")
	if tasks.Succeeded(e.Outcome.Outcome) {
		return nil
	}
	return archived(e.Outcome.Outcome, discreet(v.recall, e.Error))
}

// expired ends a recall whose window has closed, without a call.
func (h *handler) expired(ctx context.Context, v *visit) error {
	reason := "the recall window closed at " + tasks.FormatTime(v.recall.RecallBy)
	if h.unserved {
		reason += "; no worker serves its lane"
	} else if until, why := h.lane.ClosedUntil(); !until.IsZero() {
		reason += "; its lane was closed (" + why + ")"
	} else if h.dequeuer.Paused(ctx) {
		reason += "; its queue was paused"
	}
	return h.end(ctx, v, retry.Expired, v.state.Code, reason)
}

// limit is the third step: the lane's limits and holds.
func (h *handler) limit(ctx context.Context, v *visit) (pass *lane.Pass, done bool, err error) {
	pass, err = h.lane.Enter(ctx, h.stop, lane.Ask{
		Task:     v.task.ID,
		RecallBy: v.recall.RecallBy,
		Urgent:   h.priority == tasks.Urgent,
		Dequeuer: h.dequeuer.Name(),
	})
	var closed *lane.Closed
	switch {
	case err == nil:
		return pass, false, nil
	case errors.Is(err, lane.ErrWindowClosed):
		return nil, true, h.expired(ctx, v)
	case errors.Is(err, lane.ErrStopping):
		h.metrics.Deferral(h.Spec.Name, h.App, metrics.Shutdown)
		return nil, true, inAsynqsWords(retry.Interrupted(retry.Shutdown, retry.Call{}))
	case errors.As(err, &closed):
		return nil, true, h.closed(ctx, v, closed)
	case ctx.Err() != nil:
		return nil, true, h.takenAway()
	}
	return nil, true, h.broken(v, err)
}

// takenAway hands back a recall that asynq has taken away, as it does when Redis is gone for longer than a lease.
func (h *handler) takenAway() error {
	h.metrics.Deferral(h.Spec.Name, h.App, metrics.Interrupted)
	return inAsynqsWords(retry.Interrupted(retry.ContextDone, retry.Call{}))
}

// closed puts a recall back because its lane does not open soon, or ends it because it does not open in time. Only a known
// opening time counts for that: a hold may end with its next probe.
func (h *handler) closed(ctx context.Context, v *visit, c *lane.Closed) error {
	known := c.Reason == lane.ReasonLimit || c.Reason == lane.ReasonThrottled
	left := v.recall.RecallBy.Sub(h.lane.Now())
	if known && c.For >= left {
		return h.end(ctx, v, retry.Expired, v.state.Code, fmt.Sprintf("the lane opens in %s (%s), the recall window closes in %s",
			c.For.Round(time.Second), c.Reason, left.Round(time.Second)))
	}
	h.metrics.Deferral(h.Spec.Name, h.App, c.Reason)
	// It waits in its queue, which is left alone while the lane is closed, and not for a time of its own: the lane may open
	// sooner than anybody thinks now.
	return deferred(c.Error(), 0)
}

// made is what came of a call.
type made struct {
	called  bool  // false if it was not made after all
	broken  error // why Redis kept it from being made
	fault   *providers.Fault
	receipt providers.Receipt
	written bool // the vendor may have counted the call
}

// call is the fourth step: one request to the provider. It has a context of its own: asynq takes the task's away when Redis
// is gone for longer than a lease, and a call that is under way had better be heard out.
func (h *handler) call(ctx context.Context, v *visit, pass *lane.Pass) made {
	if h.cancelled(ctx, v) {
		return made{}
	}
	if h.Spec.AmbiguousNotFound && !v.state.Maybe {
		started := v.state
		started.Maybe = true
		if err := h.ledger.Save(ctx, v.task, started); err != nil {
			return made{broken: err} // no call without a record of it
		}
	}
	account := h.account.Load()
	if pass.Stale() || !pass.Latest().Before(v.recall.RecallBy) || pass.Fingerprint != account.Fingerprint {
		h.unmark(ctx, v)
		return made{}
	}
	m := made{called: true}
	callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.Timeout+time.Second)
	defer cancel()
	var written atomic.Bool // the transport may still report after Recall has returned
	callCtx = httptrace.WithClientTrace(callCtx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { written.Store(true) },
	})
	h.pickedUp(v)
	req := v.recall.Request()
	req.CorrelationID = v.task.ID
	began := time.Now()
	receipt, err := account.Provider.Recall(callCtx, req)
	m.receipt, m.fault = receipt, providers.AsFault(err)
	v.request = receipt.RequestID
	if m.fault != nil {
		v.request = m.fault.RequestID
	}
	m.written = written.Load()
	kind := metrics.Success
	if m.fault != nil {
		kind = string(m.fault.Kind)
	}
	h.metrics.Call(h.Spec.Name, h.App, kind, time.Since(began))
	return m
}

// cancelled reports whether the recall's batch may have been cancelled while the recall waited for its lane. The guard then
// looks again.
func (h *handler) cancelled(ctx context.Context, v *visit) bool {
	if v.recall.Batch == "" || time.Since(v.looked) < cancelWithin {
		return false
	}
	why, err := h.ledger.Cancellation(ctx, v.recall.Batch)
	return err != nil || why != ""
}

// pickedUp notes how long a recall waited for its first call.
func (h *handler) pickedUp(v *visit) {
	first := !v.state.Called() && !v.called
	v.called = true
	if first && !v.recall.EnqueuedAt.IsZero() {
		h.metrics.Pickup(h.Spec.Name, h.App, h.lane.Now().Sub(v.recall.EnqueuedAt))
	}
}

// unmark takes back the mark of a call that was not made after all.
func (h *handler) unmark(ctx context.Context, v *visit) {
	if !h.Spec.AmbiguousNotFound {
		return
	}
	if err := h.ledger.Save(ctx, v.task, v.state); err != nil {
		v.log.Debug().Err(err).Msg("a call is on record that was not made")
	}
}

// decide is the fifth step: what to do about it is the policy's word.
func (h *handler) decide(v *visit, pass *lane.Pass, m made) retry.Decision {
	if !m.called {
		return retry.Decision{Action: retry.Again}
	}
	return retry.Decide(h.ask(v, pass, m))
}

// ask is what the policy is asked.
func (h *handler) ask(v *visit, pass *lane.Pass, m made) retry.Call {
	c := retry.Call{
		Fault:    m.fault,
		Attempts: v.state.Attempts,
		Now:      h.lane.Now(),
		RecallBy: v.recall.RecallBy,
		Earlier:  v.state.Maybe,
		Refusals: v.state.Refusals + 1,
		Probe:    pass.Probe,
		Renewal:  v.renewal,
		Jitter:   rand.Float64(),
	}
	if h.Spec.WindowDocumented && !v.recall.SentAt.IsZero() {
		c.VendorWindow = v.recall.SentAt.Add(h.Spec.Window)
	}
	if v.state.Refusals > 0 {
		c.OthersSucceed = pass.SucceededAt.After(v.state.RefusedAt)
	}
	return c
}

// record is the sixth step: outcome, lane and log. It reports whether the recall is called again in place.
func (h *handler) record(ctx context.Context, v *visit, pass *lane.Pass, m made, d retry.Decision) (again bool, err error) {
	settlement := lane.Settlement{Class: lane.Unmade}
	if m.called {
		settlement = lane.Settlement{Class: lane.ClassOf(m.fault), Written: m.written, Lane: d.Lane}
		if m.fault != nil {
			settlement.Says = discreet(v.recall, m.fault.Error())
		}
	}
	if d.Action == retry.Finish {
		err = h.finish(ctx, v, m, d) // before the lane is told, which may fail
		h.settle(ctx, v, pass, settlement)
		return false, err
	}
	change := h.settle(ctx, v, pass, settlement)
	if m.broken != nil {
		return false, h.broken(v, m.broken)
	}
	if change.Spared { // this recall alone is refused, which only the lane could tell
		c := h.ask(v, pass, m)
		c.OthersSucceed = true
		if d = retry.Decide(c); d.Action == retry.Finish {
			return false, h.finish(ctx, v, m, d)
		}
	}
	if m.called {
		h.remember(ctx, v, pass, m, d)
	}
	return h.next(ctx, v, m, d)
}

// finish ends a recall with what came of its call.
func (h *handler) finish(ctx context.Context, v *visit, m made, d retry.Decision) error {
	if d.Attempt {
		v.state.Attempts++
	}
	if m.fault != nil { // an answer that says no takes back the mark of its own call, not that of an earlier one
		v.state.Maybe = v.state.Maybe || m.fault.MaybeDone
	}
	return h.end(ctx, v, d.Outcome, code(m), d.Reason)
}

// next waits in place for the next call, or hands the recall back to its queue.
func (h *handler) next(ctx context.Context, v *visit, m made, d retry.Decision) (again bool, err error) {
	v.renewal = m.called && d.Action == retry.Again
	visited := time.Since(v.since)
	d.Reason = discreet(v.recall, d.Reason)
	if d.Action == retry.Again && visited < longestVisit {
		return true, nil
	}
	left := d.Delay
	if d.InPlace && visited+d.Delay < longestVisit {
		left = h.wait(ctx, d.Delay)
		if left == 0 {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return false, h.takenAway()
	}
	if left < d.Delay {
		h.metrics.Deferral(h.Spec.Name, h.App, metrics.Shutdown)
		// The worker stops: the recall goes back with the rest of its wait. Its attempt is on record already.
		return false, deferred(d.Reason, left)
	}
	if m.fault != nil {
		if d.Action == retry.Defer {
			h.metrics.Deferral(h.Spec.Name, h.App, string(m.fault.Kind))
		}
		v.log.Debug().Str("fault", discreet(v.recall, m.fault.Error())).Dur("delay", d.Delay).Str("action", d.Action.String()).Msg("recall waits")
	}
	return false, inAsynqsWords(d)
}

// wait waits in place and returns what is left of it when the worker stops, or the task is taken away, before that.
func (h *handler) wait(ctx context.Context, d time.Duration) time.Duration {
	until := time.Now().Add(d)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return 0
	case <-h.stop:
	case <-ctx.Done():
	}
	return max(time.Until(until), time.Millisecond)
}

// remember keeps what the next call has to know.
func (h *handler) remember(ctx context.Context, v *visit, pass *lane.Pass, m made, d retry.Decision) {
	s := v.state
	if d.Attempt {
		s.Attempts++
	}
	if m.fault != nil {
		s.Maybe, s.Code = s.Maybe || m.fault.MaybeDone, m.fault.Code
		// A probe's refusal says that the lane is broken, not the recall.
		refused := lane.ClassOf(m.fault) == lane.Refused && d.Action != retry.Again && !pass.Probe
		if refused && s.Refusals == 0 {
			s.RefusedAt = h.lane.Now()
		}
		if refused {
			s.Refusals++
		}
	}
	if s == v.state && !h.Spec.AmbiguousNotFound {
		return
	}
	if err := h.ledger.Save(ctx, v.task, s); err != nil {
		v.log.Debug().Err(err).Msg("the record of this call is missing")
	}
}

// end writes an outcome, logs it and returns what asynq is to do.
func (h *handler) end(ctx context.Context, v *visit, outcome, code, reason string) error {
	e := ledger.Entry{
		ID:     v.task.ID,
		Recall: v.recall,
		Outcome: tasks.Outcome{
			Outcome: outcome, Code: code, Attempts: v.state.Attempts, FinishedAt: h.lane.Now(),
		},
		Maybe: v.state.Maybe,
	}
	if outcome != retry.Recalled && outcome != retry.AlreadyRecalled {
		e.Error = providers.Line(reason, providers.MaxMessage)
	}
	if err := h.write(ctx, v, e); err != nil {
		return h.broken(v, err)
	}
	h.tell(v, e)
	return inAsynqsWords(retry.Decision{Action: retry.Finish, Outcome: outcome, Reason: discreet(v.recall, e.Error)})
}

// write writes an outcome, again and again while Redis is away: it may be known to nobody else. It gives up when the worker
// has to leave; a later call for the recall then finds it already recalled.
func (h *handler) write(ctx context.Context, v *visit, e ledger.Entry) error {
	ctx = context.WithoutCancel(ctx)
	h.unwritten.Add(1)
	record := h.ledger.Record
	for said := false; ; record = h.ledger.RecordAgain {
		err := record(ctx, v.task, e)
		if err == nil {
			h.unwritten.Add(-1)
			return nil
		}
		// That Redis is away is said once for all. Anything else has to do with this recall alone.
		if !said && !redisconn.Away(err) {
			said = true
			v.log.Error().Err(err).Str("outcome", e.Outcome.Outcome).Msg("the outcome cannot be written; it is tried until it can")
		}
		select {
		case <-h.leave:
			v.log.Error().Err(err).Str("outcome", e.Outcome.Outcome).Msg("the outcome could not be written before the worker had to leave")
			return err
		case <-time.After(brokenWait):
		}
	}
}

// tell logs how a recall ended: one line for each.
func (h *handler) tell(v *visit, e ledger.Entry) {
	line := v.log.Info()
	if !tasks.Succeeded(e.Outcome.Outcome) {
		line = v.log.Warn().Str("error", discreet(v.recall, e.Error))
	}
	if v.request != "" {
		line = line.Str("request_id", v.request)
	}
	line.Str("message_id", v.recall.MessageID).Str("outcome", e.Outcome.Outcome).Str("code", e.Outcome.Code).
		Int("attempts", e.Outcome.Attempts).Msg("recall ended")
	h.metrics.Outcome(h.Spec.Name, h.App, e.Outcome.Outcome)
}

// settle tells the lane, and once for each change the log.
func (h *handler) settle(ctx context.Context, v *visit, pass *lane.Pass, s lane.Settlement) lane.Change {
	ctx = context.WithoutCancel(ctx)
	change, err := h.lane.Settle(ctx, pass, s)
	if err != nil {
		// The call stays counted until its lease ends: never too few.
		v.log.Debug().Err(err).Msg("the lane was not told of a call's end")
		return change
	}
	h.changed(ctx, change)
	if s.Class != lane.Throttled || !s.Lane.WholeAccount {
		return change
	}
	for name, sibling := range h.family(ctx) {
		if err := sibling.Throttle(ctx, pass.Began, s.Lane); err != nil {
			v.log.Warn().Err(err).Str("lane", name).Msg("a lane of the same account was not throttled")
		}
	}
	return change
}

// family are the other lanes of the same account, those that other processes serve included.
func (h *handler) family(ctx context.Context) map[string]*lane.Lane {
	if h.Account == "" {
		return nil
	}
	all := maps.Clone(h.siblings)
	published, _ := tasks.Lanes(ctx, h.redis) // what cannot be read is not known to be of the account
	for _, l := range published {
		if l.Account == h.Account && l.Name() != h.lane.Name() && all[l.Name()] == nil {
			all[l.Name()] = lane.New(h.redis, lane.Options{Provider: l.Provider, App: l.App, Limits: l.Limits, Instance: h.instance})
		}
	}
	return all
}

// changed tells that the lane has closed or opened, once for each time.
func (h *handler) changed(ctx context.Context, c lane.Change) {
	switch c.Kind {
	case "closed":
		h.log.Warn().Str("reason", c.Reason).Time("until", c.Until).Str("says", c.Says).Msg("lane closed")
	case "opened":
		h.log.Info().Str("reason", c.Reason).Time("since", c.Since).Msg("lane open again")
	default:
		return
	}
	if err := h.publish(ctx); err != nil {
		h.log.Debug().Err(err).Msg("the lane was not published")
	}
}

// broken hands a recall back because Redis failed.
func (h *handler) broken(v *visit, err error) error {
	v.log.Debug().Err(err).Msg("recall handed back")
	h.metrics.Deferral(h.Spec.Name, h.App, metrics.Redis)
	return deferred("redis failed: "+providers.Line(err.Error(), providers.MaxMessage), brokenWait)
}

// code is the vendor's code of the last answer, else the HTTP status, else empty.
func code(m made) string {
	if m.fault != nil {
		return m.fault.Code
	}
	return m.receipt.Code
}
