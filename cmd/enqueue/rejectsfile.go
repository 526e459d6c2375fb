package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
)

// rejectsFile is the file of --rejects. It is written beside its place and put there at the end, so that what was there before, rows of
// another input perhaps that are still to be mended, is not lost, nor what another run writes at the same time.
type rejectsFile struct {
	path string // as it was given
	at   string // the file itself, if path is a link
	part string // where it is written; "" for a terminal or a pipe
	file *os.File
	out  *bufio.Writer
}

// newRejectsFile refuses to write over one of the inputs: mended rejects are input, and the natural name for what is still wrong with
// them is the same.
func newRejectsFile(path string, inputs []string) (*rejectsFile, error) {
	if path == input.Stdin {
		return nil, errors.New("--rejects -: name a file; results go to standard output")
	}
	if strings.HasSuffix(path, ".gz") {
		return nil, fmt.Errorf("--rejects %s: is written as it is, not compressed; leave out .gz", path)
	}
	r := &rejectsFile{path: path, at: path}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		r.at = target
	}
	mode, flags := fs.FileMode(0o666), os.O_WRONLY|os.O_CREATE|os.O_EXCL
	r.part = fmt.Sprintf("%s.%d.part", r.at, os.Getpid())
	name := r.part
	if old, err := os.Stat(r.at); err == nil {
		if isAmong(old, inputs) {
			return nil, fmt.Errorf("--rejects %s: is one of the inputs; name another file", path)
		}
		if mode = old.Mode().Perm(); !old.Mode().IsRegular() {
			name, flags, r.part = r.at, os.O_WRONLY, ""
		}
	}
	var err error
	if r.file, err = os.OpenFile(name, flags, mode); err != nil {
		return nil, fmt.Errorf("--rejects %s: cannot be written there: %w", path, withoutPath(err))
	}
	r.out = bufio.NewWriter(r.file)
	return r, nil
}

// withoutPath leaves out a name that the message has already.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func isAmong(file os.FileInfo, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		in, err := os.Stat(name)
		return err == nil && os.SameFile(file, in)
	})
}

// discard drops what was written.
func (r *rejectsFile) discard() {
	_ = r.file.Close()
	if r.part != "" {
		_ = os.Remove(r.part)
	}
}

// close puts the file in its place. It returns where what was there before is now, unless that was the same, as it is when a run
// follows its dry run.
func (r *rejectsFile) close() (kept string, err error) {
	if err := errors.Join(r.out.Flush(), r.file.Close()); err != nil || r.part == "" {
		return "", err
	}
	old, err := os.Stat(r.at)
	if err == nil && old.Size() > 0 {
		same, err := sameContent(r.at, r.part)
		if err != nil {
			return "", err
		}
		if !same {
			if kept, err = r.keepOld(); err != nil {
				return "", err
			}
		}
	}
	return kept, os.Rename(r.part, r.at)
}

// keepOld gives the file that is there the next free name with a tilde.
func (r *rejectsFile) keepOld() (string, error) {
	kept := r.at + "~"
	for n := 2; ; n++ {
		if _, err := os.Lstat(kept); errors.Is(err, fs.ErrNotExist) {
			return kept, os.Rename(r.at, kept)
		}
		kept = fmt.Sprintf("%s~%d", r.at, n)
	}
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
