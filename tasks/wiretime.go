package tasks

import (
	"encoding/json"
	"fmt"
	"time"
)

// TimeLayout is how every time is written, always with three digits and Z, so that two of them compare as text.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// appendTime appends t without quotes, in [TimeLayout]: the worker's scripts in Redis compare recall_by as text. To do so digit by digit is a
// good deal faster than time.AppendFormat, which a million rows notice.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendDigits(dst, year, 4)
	dst = append(dst, '-')
	dst = appendDigits(dst, int(month), 2)
	dst = append(dst, '-')
	dst = appendDigits(dst, day, 2)
	dst = append(dst, 'T')
	dst = appendDigits(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, minute, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, second, 2)
	dst = append(dst, '.')
	dst = appendDigits(dst, t.Nanosecond()/1e6, 3)
	return append(dst, 'Z')
}

func appendDigits(dst []byte, n, width int) []byte {
	var digits [4]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:width]...)
}

// writable reports whether t fits the layout's four digits of year.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

// FormatTime writes a time in [TimeLayout], in UTC.
func FormatTime(t time.Time) string { return string(appendTime(nil, t)) }

// wireTime is a time in JSON; the zero time is the empty string.
type wireTime time.Time

func (t wireTime) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte(`""`), nil
	}
	if !writable(time.Time(t)) {
		return nil, fmt.Errorf("a time in the year %d cannot be written", time.Time(t).Year())
	}
	return append(appendTime([]byte{'"'}, time.Time(t)), '"'), nil
}

func (t *wireTime) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == "" {
		*t = wireTime{}
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("%q is no time in RFC 3339", s)
	}
	if !writable(parsed) { // its zone moves it into another millennium
		return fmt.Errorf("%q is in a year that cannot be written", s)
	}
	*t = wireTime(cut(parsed))
	return nil
}

// cut brings a time to what the wire holds: UTC, milliseconds, no monotonic reading.
func cut(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}
