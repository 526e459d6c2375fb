package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rivo/uniseg"
	"github.com/spf13/cobra"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/lane"
	"github.com/recallq/recallq/providers"
)

func (p *program) lanesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lanes",
		Short: "Show each lane: whether it is open, what waits in it, and who works on it",
		Long: "Show each lane that a worker has published: whether it is open, or since when and why it is not, what waits in\n" +
			"it and how long that takes at its limits, when the next window closes, and how many workers serve it. Behind\n" +
			"them are lanes that something waits in although no worker has ever served them.\n" +
			"With -o json, one object a line.",
		Example: "  enqueue lanes\n  enqueue lanes -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := p.common.json()
			if err != nil {
				return err
			}
			b, err := p.openBook(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			views, now, err := b.readLanes(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return p.lanesJSON(views, now)
			}
			p.lanesText(views, now)
			return nil
		},
	}
}

// laneStanding is all that is shown of one lane.
type laneStanding struct {
	laneView
	workers int // processes that serve it
}

// readLanes reads every lane that a worker has published or that something waits in, by Redis's clock.
func (b *book) readLanes(ctx context.Context) ([]laneStanding, time.Time, error) {
	now, err := b.now(ctx)
	if err != nil {
		return nil, now, err
	}
	lanes, err := b.lanes(ctx)
	if err != nil {
		return nil, now, b.failure(err)
	}
	servers, err := readServers(ctx, b.rdb, now)
	if err != nil {
		return nil, now, b.failure(err)
	}
	var views []laneStanding
	for _, l := range lanes {
		s, err := lane.ReadStatus(ctx, b.rdb, l, now)
		if err != nil {
			return nil, now, b.failure(err)
		}
		if neverServed(l) && s.Waiting() == 0 && !s.Urgent.Paused && !s.Bulk.Paused { // a queue stays known when it is empty
			continue
		}
		views = append(views, laneStanding{b.view(l, s, now), servers.on(s.Urgent.Name, s.Bulk.Name)})
	}
	return views, now, nil
}

// The states of a lane. The first that fits is shown.
const (
	stateHeld      = "held"
	stateThrottled = "throttled"
	statePaused    = "paused"
	stateUnserved  = "unserved" // never served by a worker
	stateLimit     = "limit"
	stateOpen      = "open"
)

// noticeable is how far away the next slot has to be to be spoken of: that of a busy lane always is, a little.
const noticeable = 2 * time.Second

func (v laneStanding) state(now time.Time) string {
	switch {
	case v.Hold.Reason != "":
		return stateHeld
	case v.Throttled.After(now):
		return stateThrottled
	case v.Urgent.Paused && v.Bulk.Paused:
		return statePaused
	case neverServed(v.published):
		return stateUnserved
	case v.next.Sub(now) > noticeable:
		return stateLimit
	}
	return stateOpen
}

func (p *program) lanesText(views []laneStanding, now time.Time) {
	if len(views) == 0 {
		fmt.Fprintln(p.stdout, "no lane: no worker has ever published one in this Redis")
		return
	}
	for _, v := range views {
		v.write(p.stdout, now)
		fmt.Fprintln(p.stdout)
	}
	for _, line := range wrap(sayLanes(views, now), pageWidth) {
		fmt.Fprintln(p.stdout, line)
	}
}

// sayLanes sums the lanes up. It comes last, where a long list leaves the eye.
func sayLanes(views []laneStanding, now time.Time) string {
	count := make(map[string]int)
	unserved := 0
	for _, v := range views {
		count[v.state(now)]++
		if v.workers == 0 {
			unserved++
		}
	}
	var parts []string
	for _, s := range []struct{ state, words string }{
		{stateOpen, "open"}, {stateHeld, "held"}, {stateThrottled, "throttled"}, {statePaused, "paused"},
		{stateUnserved, "never served"}, {stateLimit, "waiting for a slot"},
	} {
		if n := count[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	text := fmt.Sprintf("%d lanes: %s", len(views), strings.Join(parts, ", "))
	if len(views) == 1 {
		text = "1 lane: " + strings.Join(parts, ", ")
	}
	if unserved > 0 {
		text += fmt.Sprintf("; %d without a worker", unserved)
	}
	return text
}

// The widths of what a person reads: a terminal's, and the names of its lines.
const (
	pageWidth  = 80
	labelWidth = 14
)

// labelled writes one named line, wrapped at the page's width.
func labelled(w io.Writer, label, text string) {
	head := fmt.Sprintf("  %-*s", labelWidth-2, label)
	for _, line := range wrap(shown(text), pageWidth-labelWidth) {
		fmt.Fprintln(w, strings.TrimRight(head+line, " "))
		head = strings.Repeat(" ", labelWidth)
	}
}

// cells is how many columns of a terminal a text takes: an ideograph takes two.
func cells(text string) int { return uniseg.StringWidth(text) }

// wrap breaks a text at spaces. A word that is longer than the width stays whole: it may be one to be copied.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case cells(line)+1+cells(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

func (v laneStanding) write(w io.Writer, now time.Time) {
	state := v.state(now)
	fmt.Fprintf(w, "%s: %s\n", v.name(), shown(v.sayState(state, now)))
	if state == stateHeld {
		labelled(w, "because", heldWords(v.Hold.Reason, v.published.Provider))
		if v.Hold.Says != "" {
			labelled(w, "vendor says", v.Hold.Says)
		}
		labelled(w, "next probe", sayProbe(v.Hold, now))
	}
	if v.Throttled.After(now) {
		labelled(w, "throttled", "the vendor said: too many calls; no call for another "+shortTime(v.Throttled.Sub(now)))
	}
	for _, q := range []lane.Queue{v.Urgent, v.Bulk} {
		if q.Paused {
			labelled(w, "paused", v.sayPaused(q, now))
		}
	}
	labelled(w, "workers", v.sayWorkers(now))
	if v.published.Simulated {
		labelled(w, "simulated", "its recalls do not reach the vendor")
	}
	if !neverServed(v.published) {
		labelled(w, "window", config.Short(v.published.Window)+" from when the message was sent")
		labelled(w, "limits", sayLimits(v.published.Limits))
	}
	labelled(w, "waiting", v.sayWaiting())
	if v.Waiting() > 0 && !neverServed(v.published) {
		labelled(w, "needs", v.sayNeeds(now))
	}
	if !v.NextExpiry.IsZero() {
		labelled(w, "next window", sayCloses(v.NextExpiry, now))
		if v.through.After(v.NextExpiry) {
			labelled(w, "", "that is before all are through: some may end as expired")
		}
	}
}

// heldWords say what a hold means to somebody who has to do something about it, by the keys that the provider has.
func heldWords(reason, provider string) string {
	switch providers.Kind(reason) {
	case providers.Credentials:
		return "the vendor refuses this account; mend its credentials, and work goes on by itself"
	case providers.Misconfigured:
		return "what answers is not the vendor's API for this account; check " + placeKeys(provider)
	case providers.Unavailable:
		return "the vendor gives no usable answer; work goes on by itself when it does"
	}
	return ""
}

// placeKeys are the keys of the configuration that say where a provider's API is, and for which account.
func placeKeys(provider string) string {
	switch provider {
	case providers.EngageLab, providers.RongCloud:
		return "base_url, data_center and app_key"
	case providers.TIMPush, providers.TIMChat:
		return "base_url, region and sdk_app_id"
	case providers.Jiguang:
		return "base_url and channel_key"
	}
	return "base_url and the account's id"
}

func (v laneStanding) sayState(state string, now time.Time) string {
	switch state {
	case stateHeld:
		text := "held (" + v.Hold.Reason + ")"
		if since := v.Hold.Since; !since.IsZero() {
			text += fmt.Sprintf(" for %s, since %s", shortTime(now.Sub(since)), showClock(since, now))
		}
		return text
	case stateThrottled:
		return "throttled by the vendor for another " + shortTime(v.Throttled.Sub(now))
	case statePaused:
		return "paused by a person"
	case stateUnserved:
		return noWorkerEver
	case stateLimit:
		return fmt.Sprintf("closed, its next slot is in %s, at %s", shortTime(v.next.Sub(now)), showClock(v.next, now))
	}
	return "open"
}

func sayProbe(h lane.Hold, now time.Time) string {
	if h.Until.After(now) {
		return "in " + shortTime(h.Until.Sub(now)) + ", with one recall"
	}
	return "due: with the next recall that waits"
}

func (v laneStanding) sayPaused(q lane.Queue, now time.Time) string {
	which := "urgent"
	if q.Name == v.Bulk.Name {
		which = "bulk"
	}
	since := ""
	if !q.PausedSince.IsZero() {
		since = fmt.Sprintf(" for %s, since %s", shortTime(now.Sub(q.PausedSince)), showClock(q.PausedSince, now))
	}
	return fmt.Sprintf("the %s queue%s; to go on: %s", which, since, v.resume())
}

func (v laneStanding) sayWorkers(now time.Time) string {
	seen := "never seen"
	if !neverServed(v.published) {
		seen = "last seen " + shortTime(max(now.Sub(v.published.LastSeen), 0)) + " ago"
	}
	if v.workers == 0 {
		return "none, " + seen + "; its recalls wait until one runs"
	}
	return fmt.Sprintf("%d, %s", v.workers, seen)
}

// sayWaiting keeps what is being worked on apart: nobody waits for it, though it is not over.
func (v laneStanding) sayWaiting() string {
	var waiting, worked []string
	for _, q := range []struct {
		name string
		lane.Queue
	}{{"urgent", v.Urgent}, {"bulk", v.Bulk}} {
		if n := q.Pending + q.Retry; n > 0 {
			text := thousands(n) + " " + q.name
			if q.Retry > 0 {
				text += " (of these " + thousands(q.Retry) + " to be tried again later)"
			}
			waiting = append(waiting, text)
		}
		if q.Active > 0 {
			worked = append(worked, thousands(q.Active)+" "+q.name)
		}
	}
	text := "nothing"
	if len(waiting) > 0 {
		text = strings.Join(waiting, ", ")
	}
	if len(worked) > 0 {
		text += "; being worked on: " + strings.Join(worked, ", ")
	}
	return text
}

func (v laneStanding) sayNeeds(now time.Time) string {
	if len(v.published.Limits) == 0 {
		return "no longer than the vendor's answers take: the lane has no limits"
	}
	text := "under 1s"
	if needs := v.through.Sub(now); needs >= time.Second {
		text = sayLong(needs)
	}
	text += " at its limits"
	if v.Hold.Reason != "" || v.Urgent.Paused || v.Bulk.Paused || v.workers == 0 {
		text += ", once it works again"
	}
	return text
}

func sayCloses(at, now time.Time) string {
	if !at.After(now) {
		return "closes now"
	}
	return fmt.Sprintf("closes in %s, at %s", shortTime(at.Sub(now)), showClock(at, now))
}

// sayLong says a duration that may be absurd: a million recalls at three a day.
func sayLong(d time.Duration) string {
	if days := d / (24 * time.Hour); days >= 730 {
		return fmt.Sprintf("%d years", days/365)
	}
	return shortTime(d)
}

// showClock shows a time of day in UTC, with its date unless that is today.
func showClock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05Z")
	}
	return t.Format("2006-01-02 15:04:05Z")
}

// laneJSON are the keys that "enqueue lanes -o json" adds to those of recallq:lanes.
type laneJSON struct {
	State      string    `json:"state"`
	HeldSince  string    `json:"held_since,omitempty"`
	Says       string    `json:"says,omitempty"`
	Throttled  string    `json:"throttled_until,omitempty"`
	NextSlot   string    `json:"next_slot,omitempty"`
	Urgent     queueJSON `json:"urgent"`
	Bulk       queueJSON `json:"bulk"`
	Needs      *int64    `json:"needs_seconds,omitempty"` // nil if the limits are not known
	NextExpiry string    `json:"next_expiry,omitempty"`
	Workers    int       `json:"workers"`
}

type queueJSON struct {
	Pending     int64  `json:"pending"`
	Retry       int64  `json:"retry"`
	Active      int64  `json:"active"`
	Paused      bool   `json:"paused"`
	PausedSince string `json:"paused_since,omitempty"`
}

func toQueueJSON(q lane.Queue) queueJSON {
	return queueJSON{q.Pending, q.Retry, q.Active, q.Paused, stamp(q.PausedSince)}
}

// lanesJSON writes each lane as recallq:lanes has it, with what else is known of it behind.
func (p *program) lanesJSON(views []laneStanding, now time.Time) error {
	for _, v := range views {
		v.published.Hold, v.published.HoldUntil = v.Hold.Reason, v.Hold.Until
		more := laneJSON{
			State: v.state(now), HeldSince: stamp(v.Hold.Since), Says: v.Hold.Says, Throttled: stamp(v.Throttled),
			Urgent: toQueueJSON(v.Urgent), Bulk: toQueueJSON(v.Bulk),
			NextExpiry: stamp(v.NextExpiry), Workers: v.workers,
		}
		if len(v.published.Limits) > 0 {
			more.NextSlot = stamp(v.next)
		}
		front, err := json.Marshal(v.published)
		if neverServed(v.published) {
			front = fmt.Appendf(nil, `{"provider":%q,"app":%q}`, v.published.Provider, v.published.App)
		} else {
			needs := int64(v.through.Sub(now).Seconds())
			more.Needs = &needs
		}
		back, err2 := json.Marshal(more)
		if err := cmp.Or(err, err2); err != nil {
			return failure(err)
		}
		line := append(bytes.TrimSuffix(front, []byte("}")), ',')
		if _, err := fmt.Fprintf(p.stdout, "%s%s\n", line, back[1:]); err != nil {
			return failure(err)
		}
	}
	return nil
}
