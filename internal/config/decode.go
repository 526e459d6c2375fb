package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/recallq/recallq/providers"
)

// decoder turns yaml nodes into values and collects what is wrong. yaml's own decoding into structs is not used: it stops
// being strict below an UnmarshalYAML, converts numbers to text and back, and reports neither paths nor everything.
type decoder struct {
	file, dir string
	env       func(string) (string, bool)
	faults    []Fault
	faulty    map[string]bool     // paths that have a fault already
	variables map[string]envValue // paths whose values come from the environment
	listen    string              // the page's address, over the file's; empty: the file's
	// redisPassword counts over the file's, unless it is empty.
	redisPassword string
}

func (d *decoder) fault(line int, path, format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	// Whoever worded the reason may have quoted a value from the environment: the wrong variable's, which may be a secret.
	if v, ok := d.variables[path]; ok && quotes(reason, v.value) {
		reason = "the value of ${" + v.name + "} cannot be used here; look at the variable, its value is not shown"
	}
	d.faults = append(d.faults, Fault{Line: line, Path: path, Reason: reason})
	d.faulty[path] = true
}

// envValue is a variable of the environment.
type envValue struct{ name, value string }

func newDecoder(file, dir string, env func(string) (string, bool)) *decoder {
	return &decoder{file: file, dir: dir, env: env, faulty: map[string]bool{}, variables: map[string]envValue{}}
}

// quotes reports whether a text quotes a value, or its beginning, of some length.
func quotes(text, value string) bool {
	const least, telling = 4, 8
	beginning := value[:min(len(value), telling)]
	escaped := strings.Trim(strconv.Quote(beginning), `"`)
	return len(value) >= least && (strings.Contains(text, beginning) || strings.Contains(text, escaped))
}

// section is a mapping of the file.
type section struct {
	path   string
	line   int
	fields map[string]field
}

// field is one key of a section.
type field struct {
	line  int
	path  string
	value *yaml.Node
}

func (s section) has(key string) bool {
	_, ok := s.fields[key]
	return ok
}

// pathOf returns the path of a key, present or not.
func (s section) pathOf(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

// lineOf returns the line of the first of the keys that is present, else of the section.
func (s section) lineOf(keys ...string) int {
	for _, key := range keys {
		if f, ok := s.fields[key]; ok {
			return f.line
		}
	}
	return s.line
}

// section reads a mapping and reports keys that are twice there or not known. No known keys means that any may be there.
func (d *decoder) section(n *yaml.Node, path string, known []string) section {
	s := section{path: path, line: 1, fields: map[string]field{}}
	if n == nil {
		return s
	}
	s.line = n.Line
	if isNull(n) { // a section whose keys are all commented out
		return s
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n.Line, path, "is %s; write keys and values, like %s", kindWord(n), "key: value")
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		d.key(&s, n.Content[i], n.Content[i+1], known)
	}
	return s
}

func (d *decoder) key(s *section, key, value *yaml.Node, known []string) {
	if key.Kind != yaml.ScalarNode {
		d.fault(key.Line, s.path, "has a key that is %s; keys are words", kindWord(key))
		return
	}
	name := key.Value
	if first, ok := s.fields[name]; ok {
		d.fault(key.Line, first.path, "is given twice, first in line %d; remove one", first.line)
		return
	}
	if name == mergeKey || (known != nil && !slices.Contains(known, name)) {
		d.unknown(s, key, known)
		return
	}
	s.fields[name] = field{line: key.Line, path: s.pathOf(name), value: value}
}

const mergeKey = "<<"

// keyWord is what may be shown of an unknown key. A key can be a secret by mistake, where a colon lacks its space.
var keyWord = regexp.MustCompile(`^[A-Za-z_-]{1,30}$`)

func (d *decoder) unknown(s *section, key *yaml.Node, known []string) {
	if key.Value == mergeKey {
		d.fault(key.Line, s.path, "has a merge key, which is not supported; write the keys out")
		return
	}
	name, _, colon := strings.Cut(key.Value, ":")
	if !keyWord.MatchString(name) {
		d.fault(key.Line, s.path, "has a key that is not known; the keys here are %s", strings.Join(known, ", "))
		return
	}
	if colon {
		d.fault(key.Line, s.pathOf(name), "lacks the space after its colon; write %s: value", name)
		return
	}
	d.fault(key.Line, s.pathOf(name), "is not known; the keys here are %s", strings.Join(known, ", "))
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Style&yaml.TaggedStyle == 0
}

func kindWord(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias, which is not supported"
	}
	if isNull(n) {
		return "empty"
	}
	return "a single value"
}

// scalar is a single value as the file has it, or the environment for it.
type scalar struct {
	text   string
	shown  string // the value for messages; the variable's name where it comes from the environment
	quoted bool   // text by the file's own word
	line   int
	path   string
}

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// scalar reads a single value. It is false if there is none, or none that can be used, which has been reported then.
func (d *decoder) scalar(f field, secret bool) (scalar, bool) {
	n := f.value
	s := scalar{line: f.line, path: f.path}
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fault(f.line, f.path, "is %s; give a single value", kindWord(n))
		return s, false
	case n.Style&yaml.TaggedStyle != 0:
		d.fault(f.line, f.path, "has a yaml tag; if the value begins with '!', put it in quotes")
		return s, false
	case isNull(n) && n.Anchor != "":
		d.fault(f.line, f.path, "has a yaml anchor; if the value begins with '&', put it in quotes")
		return s, false
	case isNull(n) || n.Value == "":
		d.fault(f.line, f.path, "has no value; give one, or remove the key")
		return s, false
	}
	if m := variable.FindStringSubmatch(n.Value); m != nil {
		return d.variable(s, m[1])
	}
	if !secret && strings.Contains(n.Value, "${") {
		d.fault(f.line, f.path, "holds ${ in other text; only a value that is exactly ${NAME} is read from the environment")
		return s, false
	}
	s.text, s.shown = n.Value, strconv.Quote(providers.Line(n.Value, 80))
	s.quoted = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	return s, true
}

func (d *decoder) variable(s scalar, name string) (scalar, bool) {
	value, ok := d.env(name)
	switch {
	case !ok:
		d.fault(s.line, s.path, "the environment variable %s is not set; set it, or write the value here", name)
		return s, false
	case value == "":
		d.fault(s.line, s.path, "the environment variable %s is empty; give it a value", name)
		return s, false
	}
	d.variables[s.path] = envValue{name, value}
	s.text, s.shown = value, "the value of ${"+name+"}"
	return s, true
}

// text returns the text of a key, or a default.
func (d *decoder) text(s section, key, otherwise string) string {
	if f, ok := s.fields[key]; ok {
		if v, ok := d.scalar(f, false); ok {
			return v.text
		}
	}
	return otherwise
}

// secret returns the text of a key that is not shown, given itself or as key_file; file is then where it stands.
func (d *decoder) secret(s section, key string) (text, file string) {
	inFile := key + "_file"
	direct, hasDirect := s.fields[key]
	if hasDirect && s.has(inFile) {
		d.fault(s.fields[inFile].line, s.fields[inFile].path, "is given with %s; give one of the two", key)
		d.faulty[direct.path] = true
		return "", ""
	}
	if hasDirect {
		v, _ := d.scalar(direct, true)
		return v.text, ""
	}
	path := d.path(s, inFile)
	if path == "" {
		if s.has(inFile) {
			d.faulty[s.pathOf(key)] = true
		}
		return "", ""
	}
	text, err := readSecret(path)
	if err != nil {
		d.fault(s.fields[inFile].line, s.fields[inFile].path, "%q %v", providers.Line(path, 200), err)
		d.faulty[s.pathOf(key)] = true
	}
	return text, path
}

const maxSecret = 64 << 10

// readSecret reads a secret's file without the newline at its end.
func readSecret(path string) (string, error) {
	text, err := readFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %s", plain(err))
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("is empty; write the secret into it")
	}
	return secret, nil
}

// path returns the name of a file, which is relative to the configuration's folder.
func (d *decoder) path(s section, key string) string {
	path := d.text(s, key, "")
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}

// boolean returns a truth value.
func (d *decoder) boolean(s section, key string, otherwise bool) bool {
	f, ok := s.fields[key]
	if !ok {
		return otherwise
	}
	v, ok := d.scalar(f, false)
	switch {
	case !ok:
		return otherwise
	case v.quoted || (v.text != "true" && v.text != "false"):
		d.fault(v.line, v.path, "%s is neither true nor false; write one of them, without quotes", v.shown)
		return otherwise
	}
	return v.text == "true"
}

var wholeNumber = regexp.MustCompile(`^-?[0-9]+$`)

// integer returns a whole number in decimal digits.
func (d *decoder) integer(f field) (int64, bool) {
	v, ok := d.scalar(f, false)
	if !ok {
		return 0, false
	}
	if v.quoted {
		d.fault(v.line, v.path, "%s is text; write the number without quotes", v.shown)
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || !wholeNumber.MatchString(v.text) {
		d.fault(v.line, v.path, "%s is not a whole number; write it in digits alone", v.shown)
		return 0, false
	}
	return n, true
}

// number returns a whole number within bounds.
func (d *decoder) number(s section, key string, otherwise, least, most int) int {
	f, ok := s.fields[key]
	if !ok {
		return otherwise
	}
	n, ok := d.integer(f)
	if !ok {
		return otherwise
	}
	if n < int64(least) || n > int64(most) {
		d.fault(f.line, f.path, "%d is out of bounds; give a number from %d to %d", n, least, most)
		return otherwise
	}
	return int(n)
}

// duration returns a duration within bounds.
func (d *decoder) duration(s section, key string, otherwise, least, most time.Duration) time.Duration {
	f, ok := s.fields[key]
	if !ok {
		return otherwise
	}
	v, ok := d.scalar(f, false)
	if !ok {
		return otherwise
	}
	got, err := time.ParseDuration(v.text)
	switch {
	case err != nil && wholeNumber.MatchString(v.text) && v.shown == strconv.Quote(v.text):
		d.fault(v.line, v.path, "%s is not a duration; write %ss", v.shown, v.text)
	case err != nil:
		d.fault(v.line, v.path, "%s is not a duration; write it like 500ms, 10s, 5m or 24h", v.shown)
	case got < least || got > most:
		d.fault(v.line, v.path, "%s is out of bounds; give a duration from %s to %s", v.shown, Short(least), Short(most))
	default:
		return got
	}
	return otherwise
}

// Short writes a duration as a person would: 24h, not 24h0m0s.
func Short(d time.Duration) string {
	text := d.String()
	if cut, ok := strings.CutSuffix(text, "m0s"); ok {
		text = cut + "m"
	}
	if cut, ok := strings.CutSuffix(text, "h0m"); ok {
		text = cut + "h"
	}
	return text
}

// list returns the items of a list.
func (d *decoder) list(s section, key string) ([]field, bool) {
	f, ok := s.fields[key]
	if !ok {
		return nil, false
	}
	if f.value.Kind != yaml.SequenceNode {
		d.fault(f.line, f.path, "is %s; write a list", kindWord(f.value))
		return nil, false
	}
	var items []field
	for i, n := range f.value.Content {
		items = append(items, field{line: n.Line, path: fmt.Sprintf("%s[%d]", f.path, i), value: n})
	}
	return items, true
}
