package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/recallq/recallq/providers"
)

// longestShown bounds a text of somebody else's that people are shown.
const longestShown = 4096

// shown makes what comes from Redis, a vendor or a producer fit to be shown to people: one line of UTF-8, without control
// characters and marks that turn the writing direction, so that it can neither forge a line nor talk to the terminal.
// What is printed for people goes through it; JSON, NDJSON and CSV keep texts as they are.
func shown(text string) string { return providers.Line(text, longestShown) }

// printable is [shown] for what is printed as it is, a command that can be copied or a line of a table: nothing is cut, and spaces
// stay. It has a space where a text would talk to the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// shortTime says a duration to people: "40s", "1h 5m", "3d 2h".
func shortTime(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	}
	return twoUnits(d, day, "d", time.Hour, "h")
}

func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, smallName)
	}
	return text
}

// plural picks the words for one or for several.
func plural(n int64, one, several string) string {
	if n == 1 {
		return one
	}
	return several
}

// thousands writes a number as people read large ones.
func thousands(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
