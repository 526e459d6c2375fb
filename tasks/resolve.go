package tasks

import (
	"strings"
	"time"
)

// Resolve fills in what depends on the lanes: the app, if it is the provider's only one, and RecallBy. It refuses a lane
// that no worker has ever published, unless allowUnserved, and a recall whose window has closed by now
// ([FieldError.IsExpired]). r has passed [Recall.Check]. As to the result see [FieldError] before it becomes an error.
//
// The window begins at SentAt, or at the id's own time where that is earlier by more than [Tolerance]. On an unpublished
// lane it is as long as the provider's own.
func Resolve(r Recall, lanes []Lane, now time.Time, allowUnserved bool) (Recall, *FieldError) {
	spec, ok := lookup(r.Provider)
	if !ok {
		return r, unknownProvider(r.Provider)
	}
	lane, err := findLane(r, lanes, allowUnserved)
	if err != nil {
		return r, err
	}
	r.App = lane.App
	if lane.Window == 0 {
		lane.Window = spec.Window
	}
	begin := r.SentAt
	if own := idTime(spec, r.MessageID, now); !own.IsZero() && own.Before(begin) && apart(own, begin) {
		begin = own
	}
	r.RecallBy = cut(begin.Add(lane.Window))
	if !now.Before(r.RecallBy) {
		if begin != r.SentAt {
			return r, lateByID(r, lane, begin)
		}
		refused := refusef("sent_at", FormatTime(begin), "is too long ago: %s closed its window at %s, %s after the message was sent",
			lane.Name(), FormatTime(r.RecallBy), shortDuration(lane.Window))
		refused.cause = ErrExpired
		return r, refused
	}
	return r, nil
}

// lateByID refuses a recall whose window has closed by the id's own time, and not by the sent_at that was given.
func lateByID(r Recall, lane Lane, own time.Time) *FieldError {
	refused := refusef("message_id", r.MessageID, "says that the message was sent at %s, and sent_at says %s; the earlier one counts, and %s closed its window at %s, %s later",
		FormatTime(own), FormatTime(r.SentAt), lane.Name(), FormatTime(r.RecallBy), shortDuration(lane.Window))
	refused.cause = ErrExpired
	return refused
}

func findLane(r Recall, lanes []Lane, allowUnserved bool) (Lane, *FieldError) {
	var apps []string
	for _, l := range lanes {
		if l.Provider != r.Provider {
			continue
		}
		if l.App == r.App {
			return l, nil
		}
		apps = append(apps, l.App)
	}
	switch {
	case r.App == "" && len(apps) == 1:
		return findLane(Recall{Provider: r.Provider, App: apps[0]}, lanes, false)
	case r.App == "" && len(apps) > 1:
		return Lane{}, refusef("app", "", "is missing, and %s has several: %s", r.Provider, strings.Join(apps, ", "))
	case r.App == "" && allowUnserved:
		return Lane{}, refusef("app", "", "is missing, and no worker has published an app of %s", r.Provider)
	case r.App != "" && allowUnserved:
		return Lane{Provider: r.Provider, App: r.App}, nil
	}
	return Lane{}, unserved(r, apps)
}

func unserved(r Recall, apps []string) *FieldError {
	known := "none is published for " + r.Provider
	if len(apps) > 0 {
		known = "known are " + strings.Join(apps, ", ")
	}
	refused := refusef("app", r.App, "is served by no worker: none has ever published %s:%s (%s); start one, or allow unserved lanes", r.Provider, r.App, known)
	if r.App == "" {
		refused = refusef("app", "", "is missing, and no worker has ever published a lane of %s; start one, or give the app and allow unserved lanes", r.Provider)
	}
	refused.cause = ErrUnserved
	return refused
}
