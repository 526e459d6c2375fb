package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestFaultIsOneLine(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]*Fault{
		"invalid":                    {Kind: Invalid},
		"unavailable: no connection": {Kind: Unavailable, Message: "no connection"},
		"throttled (HTTP 429)":       {Kind: Throttled, Code: "HTTP 429"},
		"already_recalled (1015055): 消息已经被撤回": {Kind: AlreadyRecalled, Code: "1015055", Message: "消息已经被撤回"},
	} {
		if got := f.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFaultKeepsItsCause(t *testing.T) {
	t.Parallel()
	if !errors.Is(&Fault{Kind: Unavailable, Err: context.Canceled}, context.Canceled) {
		t.Error("the cause is lost")
	}
	if errors.Unwrap(&Fault{Kind: Invalid}) != nil {
		t.Error("there is a cause where there is none")
	}
}

// The kinds are values of a metric: this list is for ever.
func TestKinds(t *testing.T) {
	t.Parallel()
	want := []Kind{
		"already_recalled", "unavailable", "throttled", "credentials", "misconfigured", "window_closed", "not_found", "invalid",
	}
	if !slices.Equal(Kinds(), want) {
		t.Errorf("kinds are %v", Kinds())
	}
}

func TestAsFault(t *testing.T) {
	t.Parallel()
	if AsFault(nil) != nil {
		t.Error("no error is a fault")
	}
	f := &Fault{Kind: Throttled}
	if AsFault(f) != f || AsFault(fmt.Errorf("around: %w", f)) != f {
		t.Error("the fault in an error is not found")
	}
	var none *Fault
	for _, err := range []error{errors.New(`Post "https://host/?usersig=hunter2": EOF`), none} {
		got := AsFault(err)
		if got == nil || got.Kind != Unavailable || !got.MaybeDone {
			t.Errorf("an error that is no fault is %v, want Unavailable and MaybeDone", got)
		} else if strings.Contains(got.Error(), "hunter2") || got.Err != nil {
			t.Errorf("the error's text is kept: %v", got)
		}
	}
}

func TestFieldError(t *testing.T) {
	t.Parallel()
	if got := (&FieldError{Field: "app_key", Reason: "is missing"}).Error(); got != "app_key: is missing" {
		t.Errorf("got %q", got)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"plain", 10, "plain"},
		{"  two \r\n\t lines  ", 20, "two lines"},
		{"nul\x00bell\x07esc\x1b[31m", 40, "nul bell esc [31m"},
		{"bad\xffutf8", 20, "bad utf8"},
		{"line\u2028sep\u202ertl\ufeffbom\u00a0nbsp", 60, "line sep rtl bom nbsp"},
		{"exactly 10", 10, "exactly 10"},
		{"exactly 11!", 10, "exactly…"},
		{"消息已经被撤回", 21, "消息已经被撤回"},
		{"消息已经被撤回", 20, "消息已经被…"},
		{"消息已经被撤回", 18, "消息已经被…"},
		{"消息已经被撤回", 17, "消息已经…"},
		{"abcdef", 3, "…"},
		{"abcdef", 2, ""},
		{"abcdef", 0, ""},
		{"abcdef", -1, ""},
	} {
		if got := Line(c.text, c.limit); got != c.want {
			t.Errorf("Line(%q, %d) is %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("plain", 3)
	f.Add("消息已经\xff被撤回\n", 10)
	f.Add("\u202e\x00", 0)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := Line(text, limit)
		if len(got) > max(limit, 0) {
			t.Errorf("%q has more than %d bytes", got, limit)
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not printable", got)
		}
		if again := Line(got, limit); again != got {
			t.Errorf("%q becomes %q when it is made a line again", got, again)
		}
	})
}
