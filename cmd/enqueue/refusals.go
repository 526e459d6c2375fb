package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
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
	file  *os.File
	old   string // where what was in the file before is now
	out   *bufio.Writer
	err   error // the first error in writing the file
}

// newRefusals creates the file, unless path is "". It refuses to write over one of the inputs: mended rejects are input,
// and the natural name for what is still wrong with them is the same.
func newRefusals(path string, inputs []string, opt tasks.RowOptions, c *console) (*refusals, error) {
	r := &refusals{console: c, opt: opt}
	if path == "" {
		return r, nil
	}
	if path == input.Stdin {
		return nil, errors.New("--rejects -: name a file; results go to standard output")
	}
	if old, err := os.Stat(path); err == nil {
		if isAmong(old, inputs) {
			return nil, fmt.Errorf("--rejects %s: is one of the inputs; name another file", path)
		}
		if err := r.keepOld(path, old); err != nil {
			return nil, err
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--rejects: %w", err)
	}
	r.file, r.out = file, bufio.NewWriter(file)
	return r, nil
}

// keepOld keeps what is in the file: rows of another input, perhaps, that are still to be mended. If it turns out to be the same, of a dry
// run for example, it is dropped at the end.
func (r *refusals) keepOld(path string, old os.FileInfo) error {
	if !old.Mode().IsRegular() || old.Size() == 0 {
		return nil
	}
	for n := 1; ; n++ {
		r.old = path + "~"
		if n > 1 {
			r.old = fmt.Sprintf("%s~%d", path, n)
		}
		if _, err := os.Lstat(r.old); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err := os.Rename(path, r.old); err != nil {
		return fmt.Errorf("--rejects: %w", err)
	}
	return nil
}

func isAmong(file os.FileInfo, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		in, err := os.Stat(name)
		return err == nil && os.SameFile(file, in)
	})
}

// dropOld forgets what was in the file if the same is in it again.
func (r *refusals) dropOld() error {
	if r.old == "" {
		return nil
	}
	same, err := sameContent(r.old, r.file.Name())
	if err != nil {
		return err
	}
	if same {
		return os.Remove(r.old)
	}
	r.console.say("%s: what was in it before is in %s", r.file.Name(), r.old)
	return nil
}

func sameContent(one, other string) (bool, error) {
	var sums [2][sha256.Size]byte
	for i, name := range []string{one, other} {
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			return false, err
		}
		h.Sum(sums[i][:0])
	}
	return sums[0] == sums[1], nil
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
	if r.out == nil || !mend {
		return
	}
	if _, err := r.out.Write(append(item.Filled(r.opt).AppendReject(nil, text), '\n')); err != nil && r.err == nil {
		r.err = err
	}
}

// close writes out the file and says how many rows were not shown.
func (r *refusals) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if more := r.count - refusalsShown; more > 0 {
		where := "; see them all with --rejects FILE"
		if r.file != nil {
			where = "; " + r.file.Name() + " has them all"
		}
		r.console.say("and %d more refused%s", more, where)
	}
	if r.file == nil {
		return nil
	}
	if err := errors.Join(r.err, r.out.Flush(), r.file.Close()); err != nil {
		return fmt.Errorf("--rejects: the file is not complete: %w", err)
	}
	if err := r.dropOld(); err != nil {
		return fmt.Errorf("--rejects: %w", err)
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

// sayRow is sayFieldError with the value as it stands in the input, where it can be searched for.
func sayRow(item input.Item, e *tasks.FieldError) string {
	value := e.Value
	if given, ok := item.Row.Get(e.Field); ok {
		value = given
	}
	return sayRefused(e.Field, value, sayReason(e))
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
