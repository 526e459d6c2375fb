package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// fuzzReader checks what must hold whatever comes in: the reader ends, lines go forwards, a row or a fault comes for each,
// and everything that is refused is one line of valid NDJSON.
func fuzzReader(f *testing.F, format Format, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader("fuzz", bytes.NewReader(data), Options{Format: format, Warn: func(string) {}})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error of more than one line: %q", err)
			}
			return
		}
		last := 0
		for {
			item, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				return // damaged gzip
			}
			if item.Line <= last {
				t.Fatalf("line %d after line %d", item.Line, last)
			}
			last = item.Line
			reject := item.AppendReject(nil, "why")
			if !json.Valid(reject) || bytes.ContainsRune(reject, '\n') {
				t.Fatalf("reject is no line of JSON: %q", reject)
			}
		}
	})
}

func FuzzIDs(f *testing.F) { fuzzReader(f, IDs, "A1\n#c\n\nB2", "{\n", "\xff\xfe") }

func FuzzNDJSON(f *testing.F) {
	fuzzReader(f, NDJSON, `{"message_id":"1"}`+"\n"+`{"a":1,"a":2}`, `{"reject_line":"x"}`, `{"a":{}}`, "{\"a\":\"\\ud800\"}")
}

func FuzzCSV(f *testing.F) {
	fuzzReader(f, CSV, "message_id,ref\n1,\"a\nb\"\n", "message_id;ref\r\n\"x;\n2;3\n", "msgid\n\"a\"\"\n", "sep=;\nmsgid;x\n1;2", "msgid\n\"a\r\n\"\r\n")
}

func FuzzAuto(f *testing.F) { fuzzReader(f, Auto, "A1", "{}", "[]", "msgid", "\x1f\x8b\x08") }

// FuzzQuotes holds quotes, which finds the ends of records, to encoding/csv, which reads them: a record that is
// complete for one must be complete for the other.
func FuzzQuotes(f *testing.F) {
	f.Add("a,\"b\nc\",d")
	f.Add("\"a\"\"\nb\"x\nc")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, '\r') {
			return // encoding/csv drops some of them
		}
		r := newRecords(newLines(nil), ',')
		lines := strings.SplitAfter(text, "\n")
		state, end := closed, 0
		for _, l := range lines {
			end += len(l)
			if state = (line{text: []byte(strings.TrimSuffix(l, "\n"))}).quotes(',', state); state != open {
				break
			}
		}
		first := strings.TrimSuffix(text[:end], "\n")
		if state == open || strings.TrimSpace(first) == "" {
			return
		}
		r.raw.WriteString(first)
		cells, err := parseRecord(r)
		if err != nil {
			return // refused as a whole, and the next line begins a record for both
		}
		r.raw.WriteString("\nnext")
		again, err := parseRecord(r)
		if err != nil || len(again) != len(cells) {
			t.Fatalf("%q ends for us, but encoding/csv reads on: %q, %v", first, again, err)
		}
	})
}
