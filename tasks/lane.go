package tasks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/recallq/recallq/providers"
)

// LanesKey is the Redis hash in which workers publish their lanes, without secrets: field "<provider>:<app>", value JSON.
const LanesKey = "recallq:lanes"

// SeenWithin is how long after LastSeen a lane counts as served.
const SeenWithin = time.Minute

// Lane is a lane as a worker publishes it.
type Lane struct {
	Provider, App string
	// Window is how long after its sending a message can be taken back.
	Window time.Duration
	Limits []providers.Limit
	// Hold is why the lane is held; empty when it is not. HoldUntil is when the next probe is due.
	Hold      string
	HoldUntil time.Time
	// Simulated is true when the lane's base URL is not the vendor's.
	Simulated bool
	// HasDefaultText is true when the app has default texts for timpush, so that a recall without any is no cause for a warning.
	HasDefaultText bool
	// Retention is how long an ended task is kept; zero means [DefaultRetention].
	Retention time.Duration
	// Account names what the lane shares with others: lanes of one account are throttled together when the vendor says so. It is
	// empty if there is nothing to share.
	Account  string
	LastSeen time.Time
}

// Name returns "jiguang:news".
func (l Lane) Name() string { return l.Provider + ":" + l.App }

// Served reports whether a worker has been seen on the lane within the last minute.
func (l Lane) Served(now time.Time) bool { return now.Sub(l.LastSeen) <= SeenWithin }

type laneJSON struct {
	Provider       string      `json:"provider"`
	App            string      `json:"app"`
	Window         string      `json:"window"`
	Limits         []limitJSON `json:"limits"`
	Hold           string      `json:"hold"`
	HoldUntil      *wireTime   `json:"hold_until,omitempty"`
	Simulated      bool        `json:"simulated"`
	HasDefaultText bool        `json:"default_text,omitempty"`
	Retention      string      `json:"retention,omitempty"`
	Account        string      `json:"account,omitempty"`
	LastSeen       wireTime    `json:"last_seen"`
}

// limitJSON is a limit as the config file has it.
type limitJSON struct {
	Calls    int    `json:"calls"`
	Per      string `json:"per"`
	TimeZone string `json:"time_zone,omitempty"`
}

const (
	perDay = "day"
	// maxHold bounds the reason of a hold, in bytes.
	maxHold = 64
)

// zonePattern is what names of time zones look like.
var zonePattern = regexp.MustCompile(`^[A-Za-z0-9_+/-]{0,64}$`)

// MarshalJSON writes the lane as the value in [LanesKey].
func (l Lane) MarshalJSON() ([]byte, error) {
	w := laneJSON{
		Provider: l.Provider, App: l.App, Window: shortDuration(l.Window), Limits: make([]limitJSON, 0, len(l.Limits)),
		Hold: l.Hold, Simulated: l.Simulated, HasDefaultText: l.HasDefaultText, Account: l.Account, LastSeen: wireTime(l.LastSeen),
	}
	if !l.HoldUntil.IsZero() {
		until := wireTime(l.HoldUntil)
		w.HoldUntil = &until
	}
	if l.Retention > 0 {
		w.Retention = shortDuration(l.Retention)
	}
	for _, limit := range l.Limits {
		w.Limits = append(w.Limits, writeLimit(limit))
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes, and leaves keys that it does not know alone. What does not look like a worker's is
// refused: it is shown to people.
func (l *Lane) UnmarshalJSON(text []byte) error {
	var w laneJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	if !slices.Contains(providers.Names(), w.Provider) {
		return fmt.Errorf("provider %q is none", w.Provider)
	}
	if err := CheckApp(w.App); err != nil {
		return fmt.Errorf("app %q %w", w.App, err)
	}
	if providers.Line(w.Hold, maxHold) != w.Hold {
		return fmt.Errorf("hold %q is no reason", w.Hold)
	}
	window, err := time.ParseDuration(w.Window)
	if err != nil || window <= 0 {
		return fmt.Errorf("window %q is no duration", w.Window)
	}
	read := Lane{
		Provider: w.Provider, App: w.App, Window: window, Hold: w.Hold, Simulated: w.Simulated,
		HasDefaultText: w.HasDefaultText, Account: w.Account, LastSeen: time.Time(w.LastSeen),
	}
	if w.HoldUntil != nil {
		read.HoldUntil = time.Time(*w.HoldUntil)
	}
	if w.Retention != "" {
		if read.Retention, err = time.ParseDuration(w.Retention); err != nil {
			return fmt.Errorf("retention %q is no duration", w.Retention)
		}
	}
	for _, limit := range w.Limits {
		parsed, err := readLimit(limit)
		if err != nil {
			return err
		}
		read.Limits = append(read.Limits, parsed)
	}
	*l = read
	return nil
}

func writeLimit(l providers.Limit) limitJSON {
	if !l.Day {
		return limitJSON{Calls: l.Calls, Per: shortDuration(l.Per)}
	}
	zone := "UTC"
	if l.TimeZone != nil {
		zone = l.TimeZone.String()
	}
	return limitJSON{Calls: l.Calls, Per: perDay, TimeZone: zone}
}

func readLimit(w limitJSON) (providers.Limit, error) {
	if w.Calls < 1 {
		return providers.Limit{}, fmt.Errorf("limit of %d calls: at least 1 is needed", w.Calls)
	}
	if !zonePattern.MatchString(w.TimeZone) {
		return providers.Limit{}, fmt.Errorf("limit in the time zone %q, which is none", w.TimeZone)
	}
	if w.Per == perDay {
		return providers.Limit{Calls: w.Calls, Day: true, TimeZone: loadZone(w.TimeZone)}, nil
	}
	per, err := time.ParseDuration(w.Per)
	if err != nil || per < time.Millisecond { // limits are reckoned with in milliseconds
		return providers.Limit{}, fmt.Errorf("limit per %q is neither a duration of at least 1ms nor %q", w.Per, perDay)
	}
	return providers.Limit{Calls: w.Calls, Per: per}, nil
}

// loadZone knows China's zone, the default limits' own, also where the machine has no time zone database. Another that
// is not known here keeps its name and stands at UTC: a producer must not fail for what only a preview shows.
func loadZone(name string) *time.Location {
	if shanghai := providers.Shanghai(); name == shanghai.String() {
		return shanghai
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.FixedZone(name, 0)
	}
	return zone
}

// shortDuration writes "24h" where time.Duration writes "24h0m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// PublishLane writes a lane to [LanesKey], for producers and the command line.
func PublishLane(ctx context.Context, rdb redis.Cmdable, l Lane) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("publishing lane %s: %w", l.Name(), err)
	}
	if err := rdb.HSet(ctx, LanesKey, l.Name(), text).Err(); err != nil {
		return fmt.Errorf("publishing lane %s: %w", l.Name(), err)
	}
	return nil
}

// Lanes returns the lanes that workers have published, served or not, in the providers' order and then by app. A lane that
// cannot be read is left out and reported in the error, with the others returned.
func Lanes(ctx context.Context, rdb redis.Cmdable) ([]Lane, error) {
	all, err := rdb.HGetAll(ctx, LanesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the published lanes: %w", err)
	}
	lanes := make([]Lane, 0, len(all))
	var broken error
	for name, text := range all {
		var l Lane
		err := json.Unmarshal([]byte(text), &l)
		if err == nil && l.Name() != name {
			err = fmt.Errorf("it says that it is %q", l.Name())
		}
		if err != nil {
			broken = fmt.Errorf("the published lane %q cannot be read; upgrade, or delete it from %s: %w", name, LanesKey, err)
			continue
		}
		lanes = append(lanes, l)
	}
	order := providers.Names()
	slices.SortFunc(lanes, func(a, b Lane) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Provider), slices.Index(order, b.Provider)),
			cmp.Compare(a.App, b.App))
	})
	return lanes, broken
}
