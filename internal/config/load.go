package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/recallq/recallq/internal/redisconn"
)

// RedisURLVariable is the environment variable that says where Redis is, over the file.
const RedisURLVariable = "RECALLQ_REDIS_URL"

// maxFile bounds what is read: no configuration is that large, but a file named by mistake may be.
const maxFile = 1 << 20

// Error is what is wrong with a configuration: everything at once. A command that meets it exits with 2.
type Error struct {
	File   string
	Faults []Fault // in the order of the file
	cause  error
}

// Fault is one thing that is wrong.
type Fault struct {
	Line   int    // 0 if the fault has no place in the file
	Path   string // "apps[1].timeout"; empty for the file as a whole
	Reason string // what is wrong and what to do; never a secret's value
}

// Error gives each fault a line: "recallq.yaml:12: apps[1].timeout: ...".
func (e *Error) Error() string {
	var lines []string
	for _, f := range e.Faults {
		place := e.File
		if f.Line > 0 {
			place += ":" + strconv.Itoa(f.Line)
		}
		if f.Path != "" {
			place += ": " + f.Path
		}
		lines = append(lines, place+": "+f.Reason)
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns what kept the file from being read: fs.ErrNotExist tells a missing file from a bad one.
func (e *Error) Unwrap() error { return e.cause }

// Load reads the file at path. env looks a variable up, as os.LookupEnv does. Its error is an [*Error] with every fault.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	return LoadListening(path, "", env)
}

// LoadListening is [Load] with another address for the page, unless it is empty: what the file says of it does not matter then. The
// address is the caller's to check, by [CheckListen].
func LoadListening(path, listen string, env func(string) (string, bool)) (*Config, error) {
	d, root, err := open(path, env)
	if err != nil {
		return nil, err
	}
	d.listen = listen
	c := d.config(root)
	if err := d.err(); err != nil {
		return nil, err
	}
	c.Path = path
	return c, nil
}

// LoadRedis reads where Redis is and no more, so that a producer needs neither the apps' secrets nor the variables that hold
// them: faults elsewhere in the file are left to the worker. RECALLQ_REDIS_URL counts over the file, and so does a password that
// was given elsewhere, unless it is empty. Its error is an [*Error]; it wraps fs.ErrNotExist if there is no such file.
func LoadRedis(path, password string, env func(string) (string, bool)) (redisconn.Options, error) {
	d, root, err := open(path, env)
	if err != nil {
		return redisconn.Options{}, err
	}
	d.redisPassword = password
	top := d.section(root, "", nil)
	o := d.redis(top)
	return o, d.err()
}

// open reads and parses the file.
func open(path string, env func(string) (string, bool)) (*decoder, *yaml.Node, error) {
	d := newDecoder(path, filepath.Dir(path), env)
	text, err := readFile(path, maxFile)
	if err != nil {
		reason := "cannot be read: " + plain(err)
		if errors.Is(err, fs.ErrNotExist) {
			reason = "there is no such file; name the configuration with --config or RECALLQ_CONFIG"
		}
		return nil, nil, &Error{File: path, cause: err, Faults: []Fault{{Reason: reason}}}
	}
	root := d.parse(text)
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	return d, root, nil
}

// readFile reads a file of limited size.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it is larger than %d KiB; is it the right file", limit>>10)
	}
	return text, nil
}

// plain is an error of a file without operation and path: "no such file or directory".
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// parse returns the root of the only document; nil for an empty file.
func (d *decoder) parse(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	err := decoder.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		d.syntax(err, text)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err, text)
	default:
		d.fault(second.Line, "", "a second document begins here; a configuration is one document, remove the line ---")
	}
	if len(first.Content) != 1 {
		return nil
	}
	return first.Content[0]
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): `)
	// parserProblem are the problems of yaml's parser, as against its scanner: it counts lines from 0 for them.
	parserProblem = regexp.MustCompile(`^did not find expected (<|node content|key$|'-'|',')`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntax reports what the parser stumbled on. Its words are kept, except where they quote the file, which may be a secret.
func (d *decoder) syntax(err error, text []byte) {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := yamlLine.FindStringSubmatch(reason); m != nil {
		line, _ = strconv.Atoi(m[1])
		reason = strings.TrimPrefix(reason, m[0])
	}
	if parserProblem.MatchString(reason) {
		line++
	}
	if m := unknownAnchor.FindStringSubmatch(reason); m != nil {
		before, _, _ := bytes.Cut(text, []byte("*"+m[1]))
		line = 1 + bytes.Count(before, []byte("\n"))
	}
	if strings.Contains(reason, "anchor") || strings.Contains(reason, "tag") {
		reason = "a value begins with '*', '&' or '!'"
	}
	reason = "is no yaml: " + reason + "; put values with special characters in quotes"
	if bytes.Contains(text, []byte("${")) {
		reason += `, also "${NAME}" within { }`
	}
	d.fault(line, "", "%s", reason)
}

// err returns what was found, in the order of the file.
func (d *decoder) err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int { return a.Line - b.Line })
	return &Error{File: d.file, Faults: d.faults}
}
