package input

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// Item is one row of an input, or one line that could not be read as a row.
type Item struct {
	Input string // the input's name, as messages call it
	Line  int    // where the row begins, from 1
	Row   tasks.Row
	Fault *Fault // what is wrong with the line; nil if it is a row

	object []byte // the row as it stands in NDJSON
}

// Fault says why a line is no row.
type Fault struct {
	Raw    string // the line, or its beginning if it is too long; empty if the rejects can show it as an object
	Field  string // the field that is wrong, "" if it is the line
	Value  string
	Reason string
}

// Reader hands out the rows of one input. It is not safe for concurrent use.
type Reader struct {
	name   string
	format Format
	lines  *lines
	opt    Options
	file   *os.File

	records *records
	columns []string        // the field that each CSV column holds; "" is ignored
	missing map[string]bool // names in --columns that were not met
	warned  bool            // of keys that are left out

	first *Item // read already; nil once it has been handed out
	last  int
}

// Name is the input's name, as messages call it.
func (r *Reader) Name() string { return r.name }

// Key is what a batch calls the input, the same whenever it is read again from its beginning: the file's whole path, links followed, or for
// standard input what its first row is. It is to be asked for before [Reader.Next].
func (r *Reader) Key() string {
	if r.file == nil {
		return KeyOf(r.name, *r.first)
	}
	whole, err := filepath.Abs(r.name)
	if err != nil {
		return r.name
	}
	if real, err := filepath.EvalSymlinks(whole); err == nil {
		return real
	}
	return whole
}

// KeyOf is what a batch calls an input that has no place and begins with certain rows.
func KeyOf(name string, rows ...Item) string {
	hash := sha256.New()
	for _, item := range rows {
		hash.Write(item.AppendReject(nil, ""))
	}
	begins, _ := rows[0].Row.Get("message_id")
	return fmt.Sprintf("%s (%s #%x)", name, providers.Line(begins, mostInKey), hash.Sum(nil)[:4])
}

// mostInKey bounds the id in a key, in bytes.
const mostInKey = 64

// Format is the format that the input is read as; never [Auto].
func (r *Reader) Format() Format { return r.format }

// Missing returns the names in [Options.Columns] that the input has not had so far: for CSV, columns of its header, which is all
// that there will be; for NDJSON, keys of the rows that were handed out. It is empty for ids. With several inputs it need not be a
// mistake, so the caller judges it.
func (r *Reader) Missing() []string { return slices.Sorted(maps.Keys(r.missing)) }

// Next returns the next row. It returns io.EOF after the last one, and a [*ReadError] when the input breaks off.
func (r *Reader) Next() (Item, error) {
	if r.first != nil {
		item := *r.first
		r.first, r.last = nil, item.Line
		return item, nil
	}
	item, err := r.read()
	switch {
	case errors.Is(err, io.EOF):
		return Item{}, err
	case err != nil:
		return Item{}, &ReadError{Input: r.name, Line: r.last, Err: err}
	}
	r.last = item.Line
	return item, nil
}

// Close closes the input's file.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func (r *Reader) read() (Item, error) {
	item, err := r.readRow()
	item.Input = r.name
	return item, err
}

func (r *Reader) readRow() (Item, error) {
	if r.format == CSV {
		return r.readRecord()
	}
	for {
		l, err := r.lines.next()
		if err != nil {
			return Item{}, err
		}
		text := bytes.TrimSpace(l.text)
		if len(text) == 0 || r.format == IDs && text[0] == '#' {
			continue
		}
		switch {
		case l.tooLong:
			return Item{Line: l.number, Fault: longLine(l)}, nil
		case r.format == IDs:
			return r.idItem(l.number, text), nil
		}
		return r.objectItem(l.number, text), nil
	}
}

// idItem takes a line for an id unless it is plainly something else: many vendors' ids have no form that could be checked
// later.
func (r *Reader) idItem(number int, text []byte) Item {
	item := Item{Line: number}
	raw := string(text)
	guessed := r.opt.Format != IDs
	switch {
	case !utf8.Valid(text):
		item.Fault = notUTF8(text)
	case text[0] == '{':
		item.Fault = &Fault{Raw: raw, Reason: "a JSON object among ids; use --format ndjson"}
	case bytes.ContainsAny(text, ",;\t\""):
		item.Fault = &Fault{Raw: raw, Reason: "more than one id in a line, or a CSV row; give one id a line, or use --format csv"}
	case r.opt.isName(raw):
		item.Fault = &Fault{Raw: raw, Reason: looksLikeNames}
	case guessed && (bytes.IndexByte(text, '|') >= 0 || isRule(raw)):
		item.Fault = &Fault{Raw: raw, Reason: looksLikeTable + ", or use --format ids if it is an id"}
	default:
		item.Row = tasks.IDRow(raw)
	}
	return item
}

// What lines look like that come into an input with files that were put together, or with a table that was copied.
const (
	looksLikeNames = "looks like column names, of another file perhaps, and not like a message; leave it out"
	looksLikeTable = "looks like a line of a table for people to read; export CSV, or one id a line"
)

// isRule reports whether a text is a line of dashes or the like: no id is without a letter and a digit.
func isRule(text string) bool {
	return text != "" && strings.IndexFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) < 0
}

func notUTF8(text []byte) *Fault {
	return &Fault{
		Raw:    strings.ToValidUTF8(string(text), "\uFFFD"),
		Reason: "not UTF-8; it looks like " + guessEncoding(text, true) + ": convert the input",
	}
}

func (r *Reader) objectItem(number int, text []byte) Item {
	item := Item{Line: number}
	if !utf8.Valid(text) {
		item.Fault = notUTF8(text)
		return item
	}
	item.object = r.renamed(bytes.Clone(text))
	row, err := tasks.DecodeRow(item.object)
	if err != nil {
		item.Fault = faultOf(err, item.object)
	}
	item.Row = row
	return item
}

// renamed is an object with its keys as --columns says.
func (r *Reader) renamed(object []byte) []byte {
	if len(r.opt.Columns) == 0 {
		return object
	}
	renamed, leftOut, ok := renameKeys(object, r.opt.Columns, r.missing)
	if !ok {
		return object
	}
	if len(leftOut) > 0 && !r.warned {
		r.warned = true
		r.opt.Warn(r.name + ": ignored " + listNames(leftOut) + " where --columns names another key for the same field")
	}
	return renamed
}

// faultOf says what [tasks.DecodeRow] found. What it says of the line as a whole has the line as its value, which the
// rejects show in full.
func faultOf(err error, text []byte) *Fault {
	fault := &Fault{Reason: err.Error()}
	var field *tasks.FieldError
	if errors.As(err, &field) {
		fault.Field, fault.Value, fault.Reason = field.Field, field.Value, field.Reason
	}
	if _, ok := membersOf(text); !ok {
		fault.Raw = string(text)
	}
	return fault
}

// readHeader reads the names of the columns. hint is the first line, from which the delimiter is told.
func (r *Reader) readHeader(hint []byte) error {
	if isSepLine(hint) {
		if err := r.skipLine(); err != nil {
			return err
		}
		r.records = newRecords(r.lines, hint[4])
	} else {
		comma, _ := guessDelimiter(hint, r.opt.known)
		r.records = newRecords(r.lines, comma)
	}
	_, names, fault, err := r.records.next()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("has no rows")
	case err != nil:
		return err
	case fault != nil:
		return fmt.Errorf("the line with the column names cannot be read: %s", fault.Reason)
	}
	for i := range names {
		names[i] = cleanName(names[i])
	}
	ignored, err := r.setColumns(names)
	if err != nil {
		return err
	}
	if len(ignored) > 0 {
		r.opt.Warn(r.name + ": ignored " + plural(len(ignored), "column") + " that recallq does not use: " + listNames(ignored))
	}
	return nil
}

func (r *Reader) skipLine() error {
	for {
		l, err := r.lines.next()
		if err != nil || len(bytes.TrimSpace(l.text)) > 0 {
			return err
		}
	}
}

func (r *Reader) setColumns(names []string) (ignored []string, err error) {
	seen := make(map[string]string, len(names))
	mapped := r.mapped(names)
	for _, name := range names {
		field, known := r.opt.field(name)
		if !known || mapped[field] != "" && mapped[field] != name {
			field = "" // unknown, or the person said which other column it is
		}
		key := field
		if key == "" {
			key = "column " + name
		}
		if earlier, twice := seen[key]; twice && name != "" {
			if earlier == name {
				return nil, fmt.Errorf("two columns are named %q; rename or drop one", name)
			}
			return nil, fmt.Errorf("the columns %q and %q both mean %s; rename or drop one", earlier, name, field)
		}
		seen[key] = name
		if field == "" && name != "" && !tasks.Ignored(name) {
			ignored = append(ignored, name)
		}
		r.columns = append(r.columns, field)
	}
	for _, name := range names {
		delete(r.missing, name)
	}
	if !slices.Contains(r.columns, "message_id") {
		return nil, fmt.Errorf("no column holds message_id; it has %s; say which one with --columns message_id=NAME", listNames(names))
	}
	return ignored, nil
}

// mapped are the fields of which the person said in which column they are, if that is there.
func (r *Reader) mapped(names []string) map[string]string {
	list := make(map[string]string)
	for theirs, field := range r.opt.Columns {
		if slices.Contains(names, theirs) {
			list[field] = theirs
		}
	}
	return list
}

func (r *Reader) readRecord() (Item, error) {
	number, cells, fault, err := r.records.next()
	if err != nil {
		return Item{}, err
	}
	item := Item{Line: number, Fault: fault}
	switch {
	case fault != nil:
		fault.Raw = strings.ToValidUTF8(fault.Raw, "\uFFFD")
	case !utf8.Valid(r.records.raw.Bytes()):
		item.Fault = notUTF8(r.records.raw.Bytes())
	case r.opt.isName(cleanName(r.idIn(cells))):
		item.Fault = &Fault{Raw: r.records.raw.String(), Reason: looksLikeNames}
	case isRule(cleanName(r.idIn(cells))):
		item.Fault = &Fault{Raw: r.records.raw.String(), Reason: looksLikeTable}
	case len(cells) != len(r.columns):
		item.Fault = &Fault{Raw: r.records.raw.String(), Reason: fmt.Sprintf(
			"the row has %s, the header %d; quote a cell that holds the delimiter", plural(len(cells), "cell"), len(r.columns))}
	default:
		item.setCells(r.columns, cells)
	}
	return item, nil
}

// idIn is what a record has in the place of its message id.
func (r *Reader) idIn(cells []string) string {
	if at := slices.Index(r.columns, "message_id"); at < len(cells) {
		return cells[at]
	}
	return ""
}

func (i *Item) setCells(columns, cells []string) {
	for n, field := range columns {
		if field == "" {
			continue
		}
		if err := i.Row.Set(field, unguard(cells[n])); err != nil {
			i.Fault = &Fault{Field: err.Field, Value: err.Value, Reason: err.Reason}
			return
		}
	}
}

// known reports whether a column has a field of ours in it.
func (o Options) known(column string) bool {
	_, ok := o.field(column)
	return ok
}

// field returns what a column of the input holds. What the person said goes before what the name means by itself.
func (o Options) field(column string) (string, bool) {
	if field, ok := o.Columns[column]; ok {
		return field, true
	}
	return tasks.Canonical(column)
}

// isName reports whether a text is the name of a column: of one that holds a field, or of one that our own output adds.
func (o Options) isName(text string) bool {
	return o.known(text) || tasks.Ignored(strings.ToLower(text))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// listNames lists names for a message, a bounded number of them.
func listNames(names []string) string {
	const most = 12
	if len(names) > most {
		return quoteNames(names[:most]) + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return quoteNames(names)
}

func quoteNames(names []string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = quoted([]byte(name))
	}
	return strings.Join(parts, ", ")
}
