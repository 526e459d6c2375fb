package simulator

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Limit is a limit on an account's calls: at most Calls in any window of length Per, or, if Day is set, in any calendar day
// there.
type Limit struct {
	Calls int
	Per   time.Duration
	Day   *time.Location
}

// String says the limit: "2 per 1h0m0s", "3 per day (Asia/Shanghai)".
func (l Limit) String() string {
	if l.Day != nil {
		return fmt.Sprintf("%d per day (%s)", l.Calls, l.Day)
	}
	return fmt.Sprintf("%d per %s", l.Calls, l.Per)
}

// Check says what is wrong with a limit.
func (l Limit) Check() error {
	if l.Calls < 1 {
		return fmt.Errorf("limit of %d calls: must be at least 1; leave the limit out to have none", l.Calls)
	}
	if (l.Per > 0) == (l.Day != nil) {
		return fmt.Errorf("limit of %d calls: give either a window or a calendar day", l.Calls)
	}
	return nil
}

// Shanghai returns China's time zone, also where the machine has no time zone database.
func Shanghai() *time.Location {
	if l, err := time.LoadLocation("Asia/Shanghai"); err == nil {
		return l
	}
	return time.FixedZone("Asia/Shanghai", 8*60*60)
}

// RealLimits returns the vendors' own limits, by provider. Those of "tencent" are about all APIs of an SDKAppID.
func RealLimits() map[string][]Limit {
	return map[string][]Limit{
		// Seed 002: "The recall frequency limit is 1 time per second."
		TIMPush: {{Calls: 1, Per: time.Second}},
		// https://www.engagelab.com/zh_CN/docs/app-push/developer-guide/rest-api/rest-api-overview
		EngageLab: {{Calls: 500, Per: time.Second}},
		// Seed 004: "Up to 2 times per hour, and a maximum of 3 times per calendar day." The time zone is not stated.
		RongCloud: {{Calls: 2, Per: time.Hour}, {Calls: 3, Day: Shanghai()}},
		// A guess: no number is documented for this API.
		Tencent: {{Calls: 200, Per: time.Second}},
	}
}

// tooMany is the code that answers a call beyond a limit.
var tooMany = map[string]string{
	Jiguang: "1015030", EngageLab: "23008", TIMPush: "90051", TIMChat: "60007", RongCloud: "1008", Tencent: "60011",
}

type limiter struct {
	rules map[string][]Limit

	mu     sync.Mutex
	counts map[accountKey][]counter // by the name that the rule stands under, and account
}

func newLimiter(replaced map[string][]Limit, none bool) (*limiter, error) {
	l := &limiter{rules: map[string][]Limit{}, counts: map[accountKey][]counter{}}
	if none {
		return l, nil
	}
	l.rules = RealLimits()
	for name, list := range replaced {
		if tooMany[name] == "" {
			return nil, fmt.Errorf("limits of %q: give one of the five providers, or tencent", cut(name, 40))
		}
		for _, rule := range list {
			if err := rule.Check(); err != nil {
				return nil, fmt.Errorf("limits of %s: %w", name, err)
			}
		}
		l.rules[name] = slices.Clone(list)
	}
	return l, nil
}

func (l *limiter) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = map[accountKey][]counter{}
}

// arrived counts a call under all limits of its account. It returns the code to refuse it with, and the limit it broke; an
// empty code if it broke none. A refused call counts too.
func (l *limiter) arrived(provider, account string, at time.Time) (string, Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := []string{provider}
	if shared := family(provider); shared != provider {
		names = []string{shared, provider}
	}
	code, broken := "", Limit{}
	for _, name := range names {
		if rule, bad := l.count(name, account, at); bad && code == "" {
			code, broken = tooMany[name], rule
		}
	}
	return code, broken
}

func (l *limiter) count(name, account string, at time.Time) (Limit, bool) {
	rules := l.rules[name]
	if len(rules) == 0 {
		return Limit{}, false
	}
	k := accountKey{name, account}
	if l.counts[k] == nil {
		l.counts[k] = make([]counter, len(rules))
	}
	broken, bad := Limit{}, false
	for i, rule := range rules {
		if l.counts[k][i].add(rule, at) && !bad {
			broken, bad = rule, true
		}
	}
	return broken, bad
}

// counter counts under one rule.
type counter struct {
	latest []int64 // the latest arrivals, sorted, as many as the rule allows: Unix nanoseconds
	day    string
	calls  int
}

// add counts an arrival and reports whether it is one too many.
func (c *counter) add(rule Limit, at time.Time) bool {
	if rule.Day != nil {
		if day := at.In(rule.Day).Format(time.DateOnly); day != c.day {
			c.day, c.calls = day, 0
		}
		c.calls++
		return c.calls > rule.Calls
	}
	t := at.UnixNano()
	// With as many arrivals as are allowed later than t-Per, this one is too many. Calls can come here in another order than
	// they arrived in, so later ones count as well: the window that holds them all is no longer than Per.
	bad := len(c.latest) == rule.Calls && c.latest[0] > t-int64(rule.Per)
	i, _ := slices.BinarySearch(c.latest, t)
	c.latest = slices.Insert(c.latest, i, t)
	if len(c.latest) > rule.Calls {
		c.latest = slices.Delete(c.latest, 0, 1)
	}
	return bad
}
