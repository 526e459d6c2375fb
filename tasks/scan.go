package tasks

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/recallq/recallq/providers"
)

// This file reads one flat JSON object. encoding/json reads tokens at a tenth of the speed, which a file of a million rows
// notices, and keeps neither the order of keys nor their repetition when it reads into a map. A fuzz test holds the two
// against each other.

var (
	errNoObject = errors.New("it does not begin with {")
	errTrailing = errors.New("something follows after its end")
	errCutOff   = errors.New("it ends too early")
	errSyntax   = errors.New("it is broken")
)

// scanner reads s from position i.
type scanner struct {
	s string
	i int
}

func decodeRow(line string) (Row, error) {
	d := scanner{s: line}
	d.space()
	if d.end() {
		return Row{}, errCutOff
	}
	if !d.take('{') {
		return Row{}, errNoObject
	}
	row := Row{cells: make([]cell, 0, 8)}
	seen := make([]string, 0, 8)
	d.space()
	for first := true; !d.take('}'); first = false {
		if !first && !d.take(',') {
			return row, d.broken()
		}
		name, v, err := d.member()
		if err != nil {
			return row, err
		}
		if refused := row.addKey(name, v, &seen); refused != nil {
			return row, refused
		}
		d.space()
	}
	d.space()
	if !d.end() {
		return row, errTrailing
	}
	return row, nil
}

// value is a value of a JSON object: a text, a number as it was written, or a flag.
type value struct {
	text string
	kind kind
	null bool
}

func (d *scanner) member() (name string, v value, err error) {
	d.space()
	if name, err = d.text(); err != nil {
		return "", v, err
	}
	d.space()
	if !d.take(':') {
		return "", v, d.broken()
	}
	d.space()
	v, err = d.value(name)
	return name, v, err
}

func (d *scanner) value(name string) (value, error) {
	if d.end() {
		return value{}, errCutOff
	}
	switch c := d.s[d.i]; {
	case c == '"':
		s, err := d.text()
		if err != nil {
			return value{}, err
		}
		if strings.Contains(s, "\uFFFD") && !holdsReplacement(d.s) {
			return value{}, refuse(shownName(name), s, "holds half of a surrogate pair, which is no character")
		}
		return value{text: s}, nil
	case c == '-' || c >= '0' && c <= '9':
		s, err := d.number()
		return value{text: s, kind: numberKind}, err
	case d.word("true"):
		return value{text: "true", kind: boolKind}, nil
	case d.word("false"):
		return value{text: "false", kind: boolKind}, nil
	case d.word("null"):
		return value{null: true}, nil
	case c == '{' || c == '[':
		return value{}, refuse(shownName(name), "", "is an object or an array; give a text or a number")
	}
	return value{}, d.broken()
}

// text reads a string. One without escapes, which nearly all are, is a part of the line.
func (d *scanner) text() (string, error) {
	if !d.take('"') {
		return "", d.broken()
	}
	begin, escaped := d.i, false
	for ; !d.end(); d.i++ {
		switch c := d.s[d.i]; {
		case c == '"':
			raw := d.s[begin:d.i]
			d.i++
			if !escaped {
				return raw, nil
			}
			var s string
			if json.Unmarshal([]byte(d.s[begin-1:d.i]), &s) != nil {
				return "", errSyntax
			}
			return s, nil
		case c == '\\':
			escaped = true
			d.i++
		case c < ' ':
			return "", d.broken()
		}
	}
	return "", errCutOff
}

// number reads a number as JSON has it and returns it as it was written.
func (d *scanner) number() (string, error) {
	begin := d.i
	d.take('-')
	if !d.take('0') && d.digits() == 0 {
		return "", d.broken()
	}
	if d.take('.') && d.digits() == 0 {
		return "", d.broken()
	}
	if d.take('e') || d.take('E') {
		if !d.take('+') {
			d.take('-')
		}
		if d.digits() == 0 {
			return "", d.broken()
		}
	}
	return d.s[begin:d.i], nil
}

func (d *scanner) digits() int {
	begin := d.i
	for !d.end() && d.s[d.i] >= '0' && d.s[d.i] <= '9' {
		d.i++
	}
	return d.i - begin
}

func (d *scanner) word(w string) bool {
	if !strings.HasPrefix(d.s[d.i:], w) {
		return false
	}
	d.i += len(w)
	return true
}

func (d *scanner) take(c byte) bool {
	if d.end() || d.s[d.i] != c {
		return false
	}
	d.i++
	return true
}

func (d *scanner) space() {
	for !d.end() && (d.s[d.i] == ' ' || d.s[d.i] == '\t' || d.s[d.i] == '\r' || d.s[d.i] == '\n') {
		d.i++
	}
}

func (d *scanner) end() bool { return d.i >= len(d.s) }

// broken says what stands where something else should.
func (d *scanner) broken() error {
	if d.end() {
		return errCutOff
	}
	rest := providers.Line(d.s[d.i:], 24)
	if rest == "" {
		return errSyntax
	}
	return errors.New("it is broken at " + rest)
}

// holdsReplacement reports whether the line itself, literally or escaped, has the character that encoding/json puts in
// place of half a surrogate pair.
func holdsReplacement(line string) bool {
	return strings.Contains(line, "\uFFFD") || strings.Contains(strings.ToLower(line), `\ufffd`)
}
