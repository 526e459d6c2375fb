package tasks

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Tolerance is how far clocks may be apart: a sent_at further in the future is refused, and an id whose own time differs
// from sent_at by more than this is warned of.
const Tolerance = 5 * time.Minute

const (
	spreadsheetHint = "is a number that a spreadsheet has changed; export the column as text and use that file"
	sentAtForms     = "give RFC 3339 with a zone like 2026-11-20T01:55:10+08:00, Unix seconds or milliseconds"
	orAnAge         = ", or an age such as 40m, 2h 30m or 1d"
)

// spreadsheetNumber is how spreadsheets write a number that is too long for its cell: 1.8E+09, with a comma in some
// countries. A hexadecimal id such as 12e4567 is not one.
var spreadsheetNumber = regexp.MustCompile(`^-?[0-9]+([.,][0-9]+[eE]\+?|[eE]\+)[0-9]{1,3}$`)

func fromSpreadsheet(value string) bool {
	return strings.ContainsAny(value, "eE") && spreadsheetNumber.MatchString(value)
}

// exported is what else spreadsheets and data frames make of an id: 1828256757.0, 1,828,256,757, -1828256757, ="1828256757", '1828256757.
var exported = regexp.MustCompile(`^(-?[0-9]+([.,][0-9]+)*|=.*|'.*)$`)

// nothing is what exports write where there is no id.
var nothing = regexp.MustCompile(`^(?i:null|nil|none|nan|n/a|\\N|#N/A|#NAME\?|#NULL!|#NUM!|#REF!|#VALUE!|#DIV/0!)$`)

// checkExport refuses what an export has made of an id. Some vendors' ids have no form of their own that would tell, and a call for one
// that was never sent says no more than that it is not found.
func checkExport(id string) *FieldError {
	switch {
	case strings.ContainsAny(id, ".,='-") && exported.MatchString(id):
		return refuse("message_id", id, spreadsheetHint)
	case len(id) < 8 && nothing.MatchString(id):
		return refuse("message_id", id, "is what an export writes where there is no id; leave the row out, or look the id up")
	}
	return nil
}

// parseBool reads 0, 1, true or false; spreadsheets write TRUE and FALSE.
func parseBool(c cell) (bool, *FieldError) {
	switch strings.ToLower(c.value) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, refuse(c.field, c.value, "is neither yes nor no; use 0, 1, true or false")
}

// ParseSentAt reads the sent_at of a flag or of a single call: the forms of a row, or an age such as 40m ([ParseAge]), meant from
// now. A file's rows have no ages, because a file is often read again later. What is refused is a [FieldError]: see there before it becomes
// an error.
func ParseSentAt(value string, zone *time.Location, now time.Time) (time.Time, *FieldError) {
	if age, ok := ParseAge(value); ok {
		if age < 0 {
			return time.Time{}, refuse("sent_at", value, "is an age below zero; use one like 40m")
		}
		return cut(now.Add(-age)), nil
	}
	t, refused := parseSentAt(value, zone)
	if refused != nil && strings.HasSuffix(refused.Reason, sentAtForms) {
		refused.Reason += orAnAge
	}
	return t, refused
}

// age is days, and what time.ParseDuration reads.
var age = regexp.MustCompile(`^(-?)(?:([0-9]{1,5})d)?([0-9.]+[hms].*)?$`)

// ParseAge reads an age: 40m, 1h30m, or as people are shown it, 1d 2h. It is false for what is none.
func ParseAge(value string) (time.Duration, bool) {
	parts := age.FindStringSubmatch(strings.ReplaceAll(value, " ", ""))
	if parts == nil || parts[2]+parts[3] == "" {
		return 0, false
	}
	var d time.Duration
	if parts[3] != "" {
		var err error
		if d, err = time.ParseDuration(parts[3]); err != nil {
			return 0, false
		}
	}
	days, _ := strconv.Atoi(parts[2]) // digits, or none
	d += time.Duration(days) * 24 * time.Hour
	if parts[1] == "-" {
		d = -d
	}
	return d, true
}

// zonedLayouts are RFC 3339 and what databases print: PostgreSQL +00, others +0000.
var zonedLayouts = []string{
	time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00",
	"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700", "2006-01-02T15:04:05Z0700",
}

func parseSentAt(value string, zone *time.Location) (time.Time, *FieldError) {
	if fromSpreadsheet(value) {
		return time.Time{}, refuse("sent_at", value, spreadsheetHint)
	}
	if t, ok := parseUnix(value); ok {
		if strings.Contains(value, ".") && t.Before(time.Unix(spreadsheetDays, 0)) {
			return time.Time{}, refuse("sent_at", value, "is a date as spreadsheets count days; export the column as text, with its zone")
		}
		return cut(t), nil
	}
	// RFC 3339 allows t and z in lower case.
	upper := strings.ToUpper(value)
	for _, layout := range zonedLayouts {
		if t, err := time.Parse(layout, upper); err == nil {
			return fourDigits(value, t)
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if _, err := time.Parse(layout, value); err != nil {
			continue
		}
		if zone == nil {
			return time.Time{}, refuse("sent_at", value, "has no time zone; add one like +08:00 or Z, or say --time-zone")
		}
		t, err := time.ParseInLocation(layout, value, zone)
		if err != nil {
			return time.Time{}, refuse("sent_at", value, "is no time; "+sentAtForms)
		}
		return fourDigits(value, t)
	}
	return time.Time{}, refuse("sent_at", value, "is no time; "+sentAtForms)
}

// zoned is a time with its zone, if only the zone was missing.
func zoned(value string, zone *time.Location) string {
	if _, refused := parseSentAt(value, nil); refused == nil {
		return value
	}
	if t, refused := parseSentAt(value, zone); refused == nil {
		return FormatTime(t)
	}
	return value
}

// fourDigits refuses a year that the time in UTC can no longer be written with.
func fourDigits(value string, t time.Time) (time.Time, *FieldError) {
	if !writable(t) || t.IsZero() {
		return time.Time{}, refuse("sent_at", value, "is no time a message can have been sent at; "+sentAtForms)
	}
	return cut(t), nil
}

// spreadsheetDays are the days since 1900 that spreadsheets count, as far as the year 2173: as Unix seconds the first of January 1970.
const spreadsheetDays = 100_000

// secondsBelow tells Unix seconds from milliseconds: as milliseconds it is March 1973, as seconds the year 5138.
const secondsBelow = 1e11

// parseUnix reads Unix seconds or milliseconds, with a fraction if there is one. It works on the digits, because a float64
// would lose milliseconds.
func parseUnix(value string) (time.Time, bool) {
	whole, fraction, dotted := strings.Cut(value, ".")
	if whole == "" || len(whole) > 18 || dotted && fraction == "" || !allDigits(whole) || !allDigits(fraction) {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	if n >= secondsBelow {
		return time.UnixMilli(n), writable(time.UnixMilli(n))
	}
	// Milliseconds are all that is kept.
	ms, _ := strconv.ParseInt((fraction + "000")[:3], 10, 64)
	return time.Unix(n, ms*1e6), true
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// checkText checks what holds for every field: its size and its encoding.
func checkText(field, value string) *FieldError {
	limit := MaxField
	switch field {
	case "message_id":
		limit = MaxID
	case "ref":
		limit = MaxRef
	}
	if len(value) > limit {
		return refusef(field, value, "is %d bytes long; at most %d are allowed", len(value), limit)
	}
	if !utf8.ValidString(value) {
		return refuse(field, value, "is not UTF-8"+guess([]byte(value))+"; convert the input first")
	}
	return nil
}

func guess(b []byte) string {
	if name := GuessEncoding(b); name != "" {
		return " (it looks like " + name + ")"
	}
	return ""
}
