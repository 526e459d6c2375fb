package input

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/recallq/recallq/tasks"
)

// member is one key of a JSON object, with its value as it was written.
type member struct {
	key   string
	value json.RawMessage
}

// kind is the first byte of a value, which tells what it is.
func (m member) kind() byte { return m.value[0] }

// empty reports whether the value is the same as no field.
func (m member) empty() bool { return m.kind() == 'n' || string(m.value) == `""` }

// membersOf takes a JSON object apart without losing repeated keys, their order, or digits of numbers.
func membersOf(object []byte) ([]member, bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return nil, false
	}
	var list []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var m member
		m.key, _ = key.(string)
		if err := d.Decode(&m.value); err != nil {
			return nil, false
		}
		list = append(list, m)
	}
	if _, err := d.Token(); err != nil || len(bytes.TrimSpace(object[d.InputOffset():])) > 0 {
		return nil, false
	}
	return list, true
}

func appendMember(dst []byte, key string, value []byte) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, quoteJSON(key)...)
	dst = append(dst, ':')
	return append(dst, value...)
}

// renameKeys gives the keys of an object their fields' names, as --columns says. What the person said goes before what a name means
// by itself: other keys of a field that they have mapped to one of the object's are left out. Names that are met are no longer
// missing.
func renameKeys(object []byte, columns map[string]string, missing map[string]bool) (out []byte, leftOut []string, ok bool) {
	members, ok := membersOf(object)
	if !ok {
		return nil, nil, false
	}
	mapped := make(map[string]bool)
	for _, m := range members {
		if field, is := columns[m.key]; is {
			mapped[field] = true
			delete(missing, m.key)
		}
	}
	out = []byte{'{'}
	for _, m := range members {
		key, renamed := columns[m.key]
		if !renamed {
			key = m.key
		}
		if field, _ := tasks.Canonical(key); mapped[field] && !renamed {
			leftOut = append(leftOut, key)
			continue
		}
		out = appendMember(out, key, m.value)
	}
	return append(out, '}'), leftOut, true
}

// Filled returns the item with what the options give its row: see [tasks.Row.Filled].
func (i Item) Filled(opt tasks.RowOptions) Item {
	if members, ok := membersOf(i.object); ok && i.Fault != nil {
		i.Row = rowOf(members) // what is wrong may stand before fields that the row has
	}
	i.Row = i.Row.Filled(opt)
	return i
}

// rowOf is a row with all fields that an object has, whatever is wrong with others.
func rowOf(members []member) tasks.Row {
	var row tasks.Row
	for _, m := range members {
		var text string
		if m.kind() != '"' {
			text = string(m.value)
		} else if json.Unmarshal(m.value, &text) != nil {
			continue
		}
		if m.empty() {
			continue
		}
		_ = row.Set(m.key, text) // what it does not take is what is wrong
	}
	return row
}

// AppendReject appends the item as a line of NDJSON, without the line's end, with the reason why it was refused. The line
// is valid input again once it has been mended, and not before: what is wrong stands as it stood. A line that could not be read
// at all is in it as reject_line. What input ignores is left out: it may be so long that the line would be too long for a row.
func (i Item) AppendReject(dst []byte, reason string) []byte {
	if i.Fault != nil && i.Fault.Raw != "" {
		dst = append(dst, `{"reject_line":`...)
		dst = append(dst, quoteJSON(i.Fault.Raw)...)
		dst = append(dst, `,"reject_reason":`...)
		return append(append(dst, quoteJSON(reason)...), '}')
	}
	members, ok := membersOf(i.object)
	if !ok {
		return i.Row.AppendReject(dst, reason)
	}
	out := []byte{'{'}
	there := make(map[string]bool)
	for _, m := range members {
		field, known := tasks.Canonical(m.key)
		filled, have := i.Row.Get(field)
		wrong := i.Fault != nil && (i.Fault.Field == m.key || known && i.Fault.Field == field)
		switch {
		case m.key == "reject_reason", tasks.Ignored(m.key) && m.key != "reject_line" && !wrong:
			continue
		case have && m.empty() && !wrong:
			continue // it takes the default, below
		case field == "sent_at" && have && m.kind() == '"':
			m.value = quoteJSON(filled)
		}
		there[field] = true
		out = appendMember(out, m.key, m.value)
	}
	for _, field := range tasks.Fields() {
		if value, have := i.Row.Get(field); have && !there[field] {
			out = appendMember(out, field, quoteJSON(value))
		}
	}
	out = appendMember(out, "reject_reason", quoteJSON(reason))
	return append(append(dst, out...), '}')
}

// quoteJSON writes a JSON string that people can read: only what JSON demands is escaped.
func quoteJSON(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// A string always has a JSON form: what is not UTF-8 has been replaced.
	_ = e.Encode(strings.ToValidUTF8(text, "\uFFFD"))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
