package main

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// refusalsShown is how many refused rows are printed one by one.
const refusalsShown = 20

// refusals says which rows are refused, and why, and keeps them for mending, with what the flags gave them: a mended row means
// the same without the flags. It is safe for concurrent use.
type refusals struct {
	console *console
	opt     tasks.RowOptions

	mu    sync.Mutex
	count int
	file  *rejectsFile // nil if nobody wants it
	err   error        // the first error in writing the file
}

// newRefusals begins the file, unless path is "".
func newRefusals(path string, inputs []string, opt tasks.RowOptions, c *console) (*refusals, error) {
	r := &refusals{console: c, opt: opt}
	if path == "" {
		return r, nil
	}
	var err error
	r.file, err = newRejectsFile(path, inputs)
	return r, err
}

// add reports one row. Only rows that were refused are kept for mending: one that failed goes in again with its input.
func (r *refusals) add(item input.Item, reason string, mend bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf("%s:%d: %s", item.Input, item.Line, reason)
	r.count++
	if r.count <= refusalsShown {
		r.console.say("%s", text)
	}
	if r.file == nil || !mend {
		return
	}
	if _, err := r.file.out.Write(append(item.Filled(r.opt).AppendReject(nil, text), '\n')); err != nil && r.err == nil {
		r.err = err
	}
}

// discard leaves things as they were before a run that has not come to its first row.
func (r *refusals) discard() {
	if r.file != nil {
		r.file.discard()
	}
}

// close writes out the file and says how many rows were not shown.
func (r *refusals) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if more := r.count - refusalsShown; more > 0 {
		where := "; see them all with --rejects FILE"
		if r.file != nil {
			where = "; " + r.file.path + " has them all"
		}
		r.console.say("and %d more refused%s", more, where)
	}
	if r.file == nil {
		return nil
	}
	if r.err != nil {
		r.file.discard()
		return fmt.Errorf("--rejects %s: the rows could not be written: %w", r.file.path, r.err)
	}
	kept, err := r.file.close()
	if err != nil {
		return fmt.Errorf("--rejects %s: %w", r.file.path, err)
	}
	if kept != "" {
		r.console.say("%s: what was in it before is in %s", r.file.path, kept)
	}
	return nil
}

func sayFault(f *input.Fault) string {
	if f.Raw != "" && (f.Field == "" || f.Field == "row") {
		return fmt.Sprintf("line %q: %s", providers.Line(f.Raw, 80), f.Reason)
	}
	return sayRefused(f.Field, f.Value, f.Reason)
}

func sayFieldError(e *tasks.FieldError) string { return sayRefused(e.Field, e.Value, sayReason(e)) }

func sayReason(e *tasks.FieldError) string {
	if errors.Is(e, tasks.ErrUnserved) {
		return e.Reason + " (--allow-unserved)"
	}
	return e.Reason
}

// sayRow is sayFieldError with the value as it stands in the input, or was typed, where it can be searched for.
func (s *settings) sayRow(item input.Item, e *tasks.FieldError) string {
	value := e.Value
	if given, ok := item.Row.Get(e.Field); ok {
		value = given
	} else if e.Field == "sent_at" && s.meant(value) {
		return fmt.Sprintf("field %q value %s (--sent-at %s): %s", e.Field, verbatim(value), printable(s.sentAtGiven), sayReason(e))
	}
	return sayRefused(e.Field, value, sayReason(e))
}

// meant reports whether a time is the one of --sent-at, and was typed in another form. A row's own time may be its id's.
func (s *settings) meant(text string) bool {
	theirs, err := time.Parse(time.RFC3339Nano, text)
	ours, bad := time.Parse(time.RFC3339Nano, s.row.Defaults["sent_at"])
	return err == nil && bad == nil && theirs.Truncate(time.Millisecond).Equal(ours.Truncate(time.Millisecond)) && text != s.sentAtGiven
}

func sayRefused(field, value, reason string) string {
	switch {
	case field == "row" && value == "":
		return "row: " + reason
	case field == "row":
		return fmt.Sprintf("row %q: %s", value, reason)
	case value == "":
		return fmt.Sprintf("field %q: %s", field, reason)
	}
	return fmt.Sprintf("field %q value %s: %s", field, verbatim(value), reason)
}

// valueShown is the length in bytes from which on a value is cut.
const valueShown = 80

// verbatim is a value as it was given, in quotes: spaces around it may be what is wrong with it.
func verbatim(value string) string {
	if len(value) <= valueShown {
		return strconv.Quote(value)
	}
	end := valueShown
	for end > 0 && !utf8.RuneStart(value[end]) {
		end--
	}
	return strconv.Quote(value[:end]) + "…"
}
