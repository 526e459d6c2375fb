package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/recallq/recallq/providers/providertest/simulator"
)

// parseLimits reads limits such as "timpush=5/1s", "rongcloud=2/1h,3/day" and "engagelab=off". Which providers there are is
// the simulator's to say.
func parseLimits(list []string) (map[string][]simulator.Limit, error) {
	limits := map[string][]simulator.Limit{}
	for _, text := range list {
		provider, rules, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--limit %q: write it like timpush=5/1s or engagelab=off", text)
		}
		if _, twice := limits[provider]; twice {
			return nil, fmt.Errorf("--limit %q: %s has limits already; join them like rongcloud=2/1h,3/day", text, provider)
		}
		limits[provider] = nil
		if rules == "off" {
			continue
		}
		for rule := range strings.SplitSeq(rules, ",") {
			l, err := parseLimit(rule)
			if err != nil {
				return nil, fmt.Errorf("--limit %q: %w", text, err)
			}
			limits[provider] = append(limits[provider], l)
		}
	}
	return limits, nil
}

func parseLimit(text string) (simulator.Limit, error) {
	number, per, ok := strings.Cut(text, "/")
	calls, err := strconv.Atoi(number)
	if !ok || err != nil {
		return simulator.Limit{}, fmt.Errorf("%q: write a number of calls and a time, like 5/1s or 3/day", text)
	}
	if per == "day" {
		return simulator.Limit{Calls: calls, Day: simulator.Shanghai()}, nil
	}
	window, err := time.ParseDuration(per)
	if err != nil {
		return simulator.Limit{}, fmt.Errorf("%q: give a time like 1s, 30m, 1h or day", per)
	}
	return simulator.Limit{Calls: calls, Per: window}, nil
}
