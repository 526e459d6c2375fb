package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
)

// enqueueFiles is enqueue --file.
func (p *program) enqueueFiles(cmd *cobra.Command, o *enqueueFlags) error {
	set, err := o.check(p, cmd.Flags())
	if err != nil {
		return err
	}
	c := newConsole(p.stderr, set.progress)
	defer c.done()
	stdin := &interruptible{ctx: cmd.Context(), r: p.stdin}
	files, err := openFiles(set, stdin, func(text string) { c.say("%s", text) })
	if err != nil && cmd.Context().Err() != nil {
		return &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	}
	if err != nil {
		return err
	}
	set.inputs = files.keys()
	return p.enqueueRows(cmd.Context(), set, c, files)
}

// files are several inputs, one after the other. Each is closed at its end; those that an interruption leaves open, perhaps
// with a read under way, the end of the program closes.
type files struct {
	readers []*input.Reader
	warn    func(string)
	// For the end: whether there is NDJSON, and which names in --columns none of the inputs had that were read so far.
	ndjson bool
	absent []string
}

// openFiles opens all inputs before a row of any is used: a wrong name at the end of the command must not leave half of
// the recalls enqueued.
func openFiles(set *settings, stdin io.Reader, warn func(string)) (*files, error) {
	f := &files{warn: warn, absent: slices.Sorted(maps.Keys(set.columns))}
	opt := input.Options{Format: set.format, Columns: set.columns, Warn: warn}
	stdins := 0
	var errs []error
	for _, name := range set.files {
		if name == input.Stdin {
			if stdins++; stdins > 1 {
				errs = append(errs, errors.New("--file -: standard input can be read once only"))
				continue
			}
		}
		r, err := input.Open(name, stdin, opt)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.readers = append(f.readers, r)
		f.ndjson = f.ndjson || r.Format() == input.NDJSON
	}
	errs = append(errs, f.missingColumns()...)
	if len(errs) > 0 {
		f.close()
		return nil, errors.Join(errs...)
	}
	return f, nil
}

// missingColumns finds names in --columns that no input has a column of; NDJSON has no header that could say so, and [files.Next]
// says it at the end.
func (f *files) missingColumns() []error {
	if f.ndjson {
		return nil
	}
	count := make(map[string]int)
	for _, r := range f.readers {
		for _, name := range r.Missing() {
			count[name]++
		}
	}
	var errs []error
	for _, r := range f.readers[:min(1, len(f.readers))] {
		for _, name := range r.Missing() {
			if count[name] == len(f.readers) {
				errs = append(errs, fmt.Errorf("--columns: there is no column %q in %s", name, r.Name()))
			}
		}
	}
	return errs
}

// keys are what the batch calls the inputs.
func (f *files) keys() []string {
	keys := make([]string, len(f.readers))
	for i, r := range f.readers {
		keys[i] = r.Key()
	}
	return keys
}

func (f *files) Next() (input.Item, error) {
	for len(f.readers) > 0 {
		item, err := f.readers[0].Next()
		if !errors.Is(err, io.EOF) {
			return item, err
		}
		f.leave(f.readers[0])
		f.readers = f.readers[1:]
		if len(f.readers) == 0 {
			f.sayAbsent()
		}
	}
	return input.Item{}, io.EOF
}

// leave closes an input that was read to its end.
func (f *files) leave(r *input.Reader) {
	_ = r.Close()
	missing := r.Missing()
	f.absent = slices.DeleteFunc(f.absent, func(name string) bool {
		return r.Format() != input.IDs && !slices.Contains(missing, name)
	})
}

// sayAbsent says which names in --columns have led to nothing: they may be mistyped.
func (f *files) sayAbsent() {
	for _, name := range f.absent {
		if f.ndjson {
			f.warn(fmt.Sprintf("--columns: no row had a key %q", name))
		}
	}
}

func (f *files) close() {
	for _, r := range f.readers {
		_ = r.Close()
	}
}
