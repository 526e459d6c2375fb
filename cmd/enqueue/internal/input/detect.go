package input

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/recallq/recallq/providers"
)

// Format is how rows are written down.
type Format string

// The formats. Auto finds out from the file's name and its first line.
const (
	Auto   Format = "auto"
	NDJSON Format = "ndjson"
	CSV    Format = "csv"
	IDs    Format = "ids"
)

// ParseFormat reads a format's name, as it is given to --format.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Auto, NDJSON, CSV, IDs:
		return f, nil
	}
	return "", fmt.Errorf("%q is no format; use auto, ndjson, csv or ids", name)
}

// delimiters are the cell delimiters that are recognised, the likeliest first.
var delimiters = []byte{',', ';', '\t'}

// detect finds the format of an input from its name and its beginning.
func detect(name string, head []byte, known func(column string) bool) (Format, error) {
	switch strings.ToLower(filepath.Ext(strings.TrimSuffix(name, ".gz"))) {
	case ".ndjson", ".jsonl":
		return NDJSON, nil
	case ".csv", ".tsv":
		if first := firstLine(head); len(first) == 0 || first[0] != '{' { // rejects are NDJSON, whatever their file is called
			return CSV, nil
		}
	}
	first := firstLine(head)
	switch {
	case len(first) == 0:
		return IDs, nil
	case first[0] == '[':
		return "", fmt.Errorf("is a JSON array; one object a line is needed: jq -c '.[]' makes that")
	case first[0] == '{' && len(first) == 1:
		return "", fmt.Errorf("is JSON with line breaks inside its objects; one object a line is needed: jq -c . makes that")
	case first[0] == '{':
		return NDJSON, nil
	case first[0] == '#':
		return IDs, nil
	case isSepLine(first):
		return CSV, nil
	}
	if _, hits := guessDelimiter(first, known); hits > 0 {
		return CSV, nil
	}
	if bytes.IndexByte(first, '|') >= 0 {
		return "", fmt.Errorf("its first line, %s, %s; if it is an id, use --format ids", quoted(first), looksLikeTable)
	}
	if bytes.ContainsAny(first, ",;\t") {
		return "", fmt.Errorf("the format cannot be told from the first line, %s; a CSV file begins with its column names, "+
			"one of which is message_id or a vendor's name for it; say otherwise with --format or --columns", quoted(first))
	}
	return IDs, nil
}

// firstLine is the first line of head that is not blank, without spaces around it.
func firstLine(head []byte) []byte {
	for len(head) > 0 {
		var text []byte
		text, head, _ = bytes.Cut(head, []byte("\n"))
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return text
		}
	}
	return nil
}

// guessDelimiter picks the delimiter by which a header line has the most column names that are known, and says how many.
func guessDelimiter(header []byte, known func(column string) bool) (best byte, hits int) {
	best, cells := delimiters[0], 0
	for _, comma := range delimiters {
		parser := csv.NewReader(bytes.NewReader(header))
		parser.Comma = rune(comma)
		names, err := parser.Read()
		if err != nil {
			names = strings.Split(string(header), string(rune(comma)))
		}
		n := 0
		for _, name := range names {
			if known(cleanName(name)) {
				n++
			}
		}
		if n > hits || (n == hits && len(names) > cells) {
			best, hits, cells = comma, n, len(names)
		}
	}
	return best, hits
}

// isSepLine recognises the line "sep=;" that Excel writes, and reads, above a header.
func isSepLine(text []byte) bool {
	return len(text) == len("sep=;") && bytes.EqualFold(text[:4], []byte("sep="))
}

func cleanName(column string) string { return strings.TrimSpace(column) }

// quoted shows a short, printable beginning of a text from a file.
func quoted(text []byte) string { return fmt.Sprintf("%q", providers.Line(string(text), 60)) }
