package tasks

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/recallq/recallq/providers"
)

// The sizes of input, in bytes.
const (
	MaxID    = 256       // a message id
	MaxRef   = 256       // the caller's own reference
	MaxField = 4 * 1024  // any other field
	MaxRow   = 64 * 1024 // a row
)

// Row is a row of input before it is checked: fields as they were given, in their order. The zero Row is an empty one.
//
// A Row is filled from a JSON object by [DecodeRow], from a CSV record by [Row.Set] for each cell, from a bare id by
// [IDRow].
type Row struct {
	cells []cell
	// rejected is true for a line that --rejects has written because it could not be read at all.
	rejected bool
}

// cell is one field as it was given.
type cell struct {
	field string // canonical
	name  string // as given: a vendor's own name, perhaps
	value string
	kind  kind
}

// kind is the type that a value had in JSON; CSV cells and ids are texts.
type kind byte

const (
	textKind kind = iota
	numberKind
	boolKind
)

// IDRow is the row of a bare message id, as the ids format and "enqueue add" have them.
func IDRow(id string) Row {
	return Row{cells: []cell{{field: "message_id", name: "message_id", value: id}}}
}

// Set adds a field under its own name or a vendor's. An empty value is the same as no field, and names that our own output
// adds are left alone. A name that is no field's, and a field given twice, are refused; as to the result see [FieldError].
func (row *Row) Set(name, value string) *FieldError {
	return row.add(name, value, textKind)
}

func (row *Row) add(name, value string, k kind) *FieldError {
	if Ignored(name) {
		row.rejected = row.rejected || name == "reject_line"
		return nil
	}
	field, ok := Canonical(name)
	if !ok {
		return refuse(shownName(name), value, "is no field of a recall; leave it out, or map it with --columns")
	}
	if value == "" && k == textKind {
		return nil
	}
	if _, have := row.cell(field); have {
		return row.repeated(field, name, value)
	}
	row.cells = append(row.cells, cell{field, name, value, k})
	return nil
}

// shownName keeps an unknown name from running away with the message.
func shownName(name string) string {
	if shown := providers.Line(name, maxShown); shown != "" {
		return shown
	}
	return "row"
}

func (row Row) cell(field string) (cell, bool) {
	for _, c := range row.cells {
		if c.field == field {
			return c, true
		}
	}
	return cell{}, false
}

// Get returns a field as it was given.
func (row Row) Get(field string) (string, bool) {
	c, ok := row.cell(field)
	return c.value, ok
}

// AppendReject appends the row as a line of NDJSON, without the line's end, with the reason why it was refused: valid input
// again once it has been mended.
func (row Row) AppendReject(dst []byte, reason string) []byte {
	dst = append(dst, '{')
	for _, c := range row.cells {
		dst = appendQuoted(dst, c.field)
		dst = append(dst, ':')
		if c.kind == textKind {
			dst = appendQuoted(dst, strings.ToValidUTF8(c.value, "\uFFFD"))
		} else {
			dst = append(dst, c.value...)
		}
		dst = append(dst, ',')
	}
	dst = append(dst, `"reject_reason":`...)
	dst = appendQuoted(dst, strings.ToValidUTF8(reason, "\uFFFD"))
	return append(dst, '}')
}

// DecodeRow reads a row from a JSON object. Numbers are taken literally, so that a long id keeps every digit, and null is
// the same as no field. Unknown keys, repeated keys, and values that are objects or arrays are refused. The error is a
// *[FieldError].
func DecodeRow(line []byte) (Row, error) {
	if len(line) > MaxRow {
		return Row{}, refusef("row", string(line[:maxShown]), "is %d bytes long; at most %d are allowed", len(line), MaxRow)
	}
	if !utf8.Valid(line) {
		return Row{}, refuse("row", string(line), "is not UTF-8"+guess(line)+"; convert it first")
	}
	row, err := decodeRow(string(line))
	if err == nil {
		return row, nil
	}
	var refused *FieldError
	if errors.As(err, &refused) {
		return row, refused
	}
	return row, refuse("row", string(line), "is no JSON object: "+providers.Line(err.Error(), maxShown))
}

// addKey adds a key of a JSON object. Null and the empty text are no field, also beside another name of it that has a value; the same
// key given twice is still a repeated one.
func (row *Row) addKey(name string, v value, seen *[]string) *FieldError {
	field, known := Canonical(name)
	if slices.Contains(*seen, name) {
		return row.repeated(cmp.Or(field, name), name, v.text)
	}
	*seen = append(*seen, name)
	if v.null && known {
		return nil
	}
	return row.add(name, v.text, v.kind)
}

func (row *Row) repeated(field, name, value string) *FieldError {
	if c, have := row.cell(field); have && c.name != name {
		return refusef(field, value, "is given twice, as %s and as %s", c.name, name)
	}
	return refuse(shownName(field), value, "is given twice")
}

// RowOptions are what a row is read with beside itself.
type RowOptions struct {
	// Defaults are values by field for rows that lack them; each applies only to rows whose provider uses the field.
	// They have the forms that rows have: an age given as sent_at is turned into a time by [ParseSentAt] once, beforehand.
	Defaults map[string]string
	// TimeZone is where times without a zone are at home; nil refuses them.
	TimeZone *time.Location
	// Now is the time against which a sent_at in the future is refused. Zero means time.Now.
	Now time.Time
}

// Recall reads the row's fields and checks all that can be checked without knowing the lanes: see [Recall.Check], also as to what is
// refused.
func (row Row) Recall(opt RowOptions) (Recall, []Warning, *FieldError) {
	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}
	r, err := row.parse(opt)
	if err != nil {
		return r, nil, err
	}
	return r.Check(opt.Now)
}

func (row Row) parse(opt RowOptions) (Recall, *FieldError) {
	var r Recall
	if err := row.checkSizes(); err != nil {
		return r, err
	}
	given, err := row.provider(opt)
	if err != nil {
		return r, err
	}
	spec, ok := lookup(given)
	if !ok {
		return r, unknownProvider(given)
	}
	r.Provider = given
	for _, f := range fields {
		c, have := row.cell(f.name)
		used := usedBy(spec, f.name)
		if have && !used {
			return r, unused(spec, f.name, c.value)
		}
		if !have && used {
			c = cell{field: f.name, name: f.name, value: opt.Defaults[f.name]}
			have = c.value != ""
		}
		if !have || f.name == "provider" {
			continue
		}
		if err := r.set(c, opt); err != nil {
			return r, err
		}
	}
	if row.rejected && r.MessageID == "" {
		return r, refuse("message_id", "", "is missing; the reject_line of this row has still to be mended into a row of its own")
	}
	return r, nil
}

// Filled returns the row with what the options give it: the defaults for fields that it lacks, and its sent_at with a zone. It
// means without the options what it meant with them. A reject_line that has still to be mended stays as it is.
func (row Row) Filled(opt RowOptions) Row {
	if _, have := row.cell("message_id"); row.rejected && !have {
		return row
	}
	full := Row{cells: slices.Clone(row.cells), rejected: row.rejected}
	for i, c := range full.cells {
		if c.field == "sent_at" {
			full.cells[i].value = zoned(c.value, opt.TimeZone)
		}
	}
	given, _ := row.cell("provider")
	spec, known := lookup(cmp.Or(given.value, opt.Defaults["provider"]))
	for _, f := range fields {
		value := opt.Defaults[f.name]
		if _, have := row.cell(f.name); have || value == "" || !known && !usedByAll(f.name) || known && !usedBy(spec, f.name) {
			continue
		}
		full.cells = append(full.cells, cell{field: f.name, name: f.name, value: value})
	}
	return full
}

func (row Row) checkSizes() *FieldError {
	total := 0
	for _, c := range row.cells {
		total += len(c.value)
		if err := checkText(c.field, c.value); err != nil {
			return err
		}
	}
	if total > MaxRow {
		return refusef("row", "", "is %d bytes long; at most %d are allowed", total, MaxRow)
	}
	return nil
}

func (row Row) provider(opt RowOptions) (string, *FieldError) {
	c, ok := row.cell("provider")
	if !ok {
		c = cell{field: "provider", value: opt.Defaults["provider"]}
	}
	if c.kind != textKind {
		return "", unknownProvider(c.value)
	}
	if c.value == "" && row.rejected {
		return "", refuse("provider", "", "is missing; the reject_line of this row has still to be mended into a row of its own")
	}
	return c.value, nil
}

// set reads one field into the recall.
func (r *Recall) set(c cell, opt RowOptions) *FieldError {
	switch c.field {
	case "sent_at":
		t, err := parseSentAt(c.value, opt.TimeZone)
		r.SentAt = t
		return err
	case "is_admin", "is_delete", "disable_update_last_msg":
		yes, err := parseBool(c)
		switch providers.Field(c.field) {
		case providers.IsAdmin:
			r.IsAdmin = yes
		case providers.IsDelete:
			r.IsDelete = yes
		case providers.DisableUpdateLastMsg:
			r.DisableUpdateLastMsg = yes
		}
		return err
	}
	if err := checkLiteral(c); err != nil {
		return err
	}
	switch c.field {
	case "app":
		r.App = c.value
	case "message_id":
		r.MessageID = c.value
	case "from":
		r.From = c.value
	case "to":
		r.To = c.value
	case "offline_push_title":
		r.OfflinePushTitle = c.value
	case "offline_push_desc":
		r.OfflinePushDesc = c.value
	case "extra":
		r.Extra = c.value
	case "ref":
		r.Ref = c.value
	}
	return nil
}

// checkLiteral refuses JSON values that have no single text: 1.0 and 1e0 are the same number.
func checkLiteral(c cell) *FieldError {
	switch {
	case c.kind == boolKind:
		return refuse(c.field, c.value, "is true or false; give a text in quotes")
	case c.kind == numberKind && strings.ContainsAny(c.value, ".eE"):
		if isIdentifier(c.field) {
			return refuse(c.field, c.value, spreadsheetHint)
		}
		return refuse(c.field, c.value, "is no whole number; give it as a text in quotes")
	}
	return nil
}

func isIdentifier(field string) bool {
	return field == "message_id" || field == "from" || field == "to"
}

func usedBy(spec providers.Spec, field string) bool {
	return usedByAll(field) || spec.Uses(providers.Field(field))
}

func usedByAll(field string) bool {
	switch field {
	case "provider", "app", "message_id", "sent_at", "ref":
		return true
	}
	return false
}

func unused(spec providers.Spec, field, value string) *FieldError {
	return refusef(field, value, "is not used by %s; leave it out", spec.Name)
}

func unknownProvider(name string) *FieldError {
	if name == "" {
		return refuse("provider", "", "is missing; give one of "+strings.Join(providers.Names(), ", "))
	}
	return refuse("provider", name, "is no provider; use one of "+strings.Join(providers.Names(), ", "))
}
