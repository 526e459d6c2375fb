package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
)

// enqueueFiles is enqueue --file.
func (p *program) enqueueFiles(cmd *cobra.Command, o *enqueueFlags) error {
	set, err := o.check(p, cmd.Flags())
	if err != nil {
		return err
	}
	stdin := &interruptible{ctx: cmd.Context(), r: p.stdin}
	files, err := openFiles(set, stdin, func(text string) { fmt.Fprintln(p.stderr, text) })
	if err != nil && cmd.Context().Err() != nil {
		return &ended{exitInterrupted, errors.New("interrupted before any row was enqueued")}
	}
	if err != nil {
		return err
	}
	set.inputs = files.keys()
	return p.enqueueRows(cmd.Context(), set, files)
}

// files are several inputs, one after the other. Each is closed at its end; those that an interruption leaves open, perhaps
// with a read under way, the end of the program closes.
type files struct{ readers []*input.Reader }

// openFiles opens all inputs before a row of any is used: a wrong name at the end of the command must not leave half of
// the recalls enqueued.
func openFiles(set *settings, stdin io.Reader, warn func(string)) (*files, error) {
	f := &files{}
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
	}
	errs = append(errs, f.missingColumns()...)
	if len(errs) > 0 {
		f.close()
		return nil, errors.Join(errs...)
	}
	return f, nil
}

// missingColumns finds names in --columns that no input has a column of; NDJSON has no header that could say so.
func (f *files) missingColumns() []error {
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
		_ = f.readers[0].Close()
		f.readers = f.readers[1:]
	}
	return input.Item{}, io.EOF
}

func (f *files) close() {
	for _, r := range f.readers {
		_ = r.Close()
	}
}
