package input

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/recallq/recallq/tasks"
)

// read reads everything and writes each item in one line: its line number, then its fields or its fault.
func read(t *testing.T, name, text string, opt Options) (rows, warnings []string) {
	t.Helper()
	if opt.Warn == nil {
		opt.Warn = func(w string) { warnings = append(warnings, w) }
	}
	r, err := NewReader(name, strings.NewReader(text), opt)
	if err != nil {
		t.Fatalf("NewReader: %v", err)
	}
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, warnings
		}
		if err != nil {
			return append(rows, "error: "+err.Error()), warnings
		}
		rows = append(rows, show(item))
	}
}

func show(item Item) string {
	if f := item.Fault; f != nil {
		return strings.TrimSpace(fmt.Sprintf("%d fault %s %s", item.Line, f.Field, f.Reason))
	}
	parts := []string{fmt.Sprint(item.Line)}
	for _, field := range tasks.Fields() {
		if value, ok := item.Row.Get(field); ok {
			parts = append(parts, fmt.Sprintf("%s=%q", field, value))
		}
	}
	return strings.Join(parts, " ")
}

func TestReaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxRow+1)
	tests := []struct {
		name, file, text string
		opt              Options
		want             []string
	}{
		{"ids", "a", "# from the export\nA1\n\n  B2  \r\n#C3\nD4", Options{},
			[]string{`2 message_id="A1"`, `4 message_id="B2"`, `6 message_id="D4"`}},
		{"ids that are something else", "a", "A1\n{\"message_id\":\"B2\"}\nC3,D4\nE5\n", Options{Format: IDs}, []string{
			`1 message_id="A1"`,
			"2 fault  a JSON object among ids; use --format ndjson",
			"3 fault  more than one id in a line, or a CSV row; give one id a line, or use --format csv",
			`4 message_id="E5"`}},
		{"ndjson", "a", "{\"message_id\":1828256757,\"provider\":\"engagelab\"}\n\n{\"msgid\":\"x\",\"app\":null}\n", Options{}, []string{
			`1 provider="engagelab" message_id="1828256757"`, `3 message_id="x"`}},
		{"ndjson that cannot be read", "a.ndjson", "{\"message_id\":\"1\",\"colour\":\"red\"}\n{\"message_id\":\"2\",\"message_id\":\"3\"}\n{broken\n{\"message_id\":\"4\"}\n", Options{}, []string{
			"1 fault colour is no field of a recall; leave it out, or map it with --columns",
			"2 fault message_id is given twice",
			"3 fault row is no JSON object: it is broken at broken",
			`4 message_id="4"`}},
		{"ndjson with mapped keys", "a", `{"msg":"1","when":1600000000}` + "\n", Options{Columns: map[string]string{"msg": "message_id", "when": "sent_at"}},
			[]string{`1 message_id="1" sent_at="1600000000"`}},
		{"a line that is too long", "a", "A1\n" + long + "\nB2\n" + long, Options{Format: IDs}, []string{
			`1 message_id="A1"`, "2 fault  the line is longer than 65536 bytes; only its beginning is shown",
			`3 message_id="B2"`, "4 fault  the line is longer than 65536 bytes; only its beginning is shown"}},
		{"csv", "a", "message_id,sent_at,ref\nA1,1600000000,x\n\nB2,,\n,,\n", Options{},
			[]string{`2 message_id="A1" sent_at="1600000000" ref="x"`, `4 message_id="B2"`}},
		{"csv with a mark, semicolons and CRLF", "a", "\uFEFFMsgKey;From_Account;To_Account\r\n1_2_3;a;b\r\n", Options{},
			[]string{`2 message_id="1_2_3" from="a" to="b"`}},
		{"csv with tabs", "a", "msgid\tref\nA1\tb,c;d\n", Options{}, []string{`2 message_id="A1" ref="b,c;d"`}},
		{"csv with sep=", "a.csv", "sep=;\nmsgid;ref\nA1;b\n", Options{}, []string{`3 message_id="A1" ref="b"`}},
		{"csv of one column", "a", "message_id\nA1\n", Options{}, []string{`2 message_id="A1"`}},
		{"csv with quotes", "a", "message_id,ref\n\"A1\",\"say \"\"hi\"\", all\nof you\"\nB2,x\n", Options{},
			[]string{`2 message_id="A1" ref="say \"hi\", all\nof you"`, `4 message_id="B2" ref="x"`}},
		{"csv with damaged quotes", "a", "message_id,ref\nA1,b\"c\nB2,\"b\"c\nC3,\"open\nD4,x\nE5,y\n", Options{}, []string{
			"2 fault  a quote at byte 5 in a cell that does not begin with one; quote the whole cell and double the quote",
			"3 fault  text after the closing quote at byte 6; double a quote that belongs to the text",
			"4 fault  a quote opens a cell in this line and is not closed; double a quote that belongs to the text",
			`5 message_id="D4" ref="x"`, `6 message_id="E5" ref="y"`}},
		{"csv with too few and too many cells", "a", "message_id,ref\nA1\nB2,x,y\nC3,z\n", Options{}, []string{
			"2 fault  the row has 1 cell, the header 2; quote a cell that holds the delimiter",
			"3 fault  the row has 3 cells, the header 2; quote a cell that holds the delimiter",
			`4 message_id="C3" ref="z"`}},
		{"csv with mapped columns", "a", "id,created\nA1,1600000000\n", Options{Columns: map[string]string{"id": "message_id", "created": "sent_at"}},
			[]string{`2 message_id="A1" sent_at="1600000000"`}},
		{"csv that is our own report", "a", "id,provider,app,message_id,outcome,code,error\nx,jiguang,news,A1,expired,,late\n", Options{},
			[]string{`2 provider="jiguang" app="news" message_id="A1"`}},
		{"ids with column names and lines of tables in between", "a", "id\nA1\nMsg_ID\nA|2\n+----+\nB2\n", Options{}, []string{
			"1 fault  looks like column names, of another file perhaps, and not like a message; leave it out", `2 message_id="A1"`,
			"3 fault  looks like column names, of another file perhaps, and not like a message; leave it out",
			"4 fault  looks like a line of a table for people to read; export CSV, or one id a line, or use --format ids if it is an id",
			"5 fault  looks like a line of a table for people to read; export CSV, or one id a line, or use --format ids if it is an id",
			`6 message_id="B2"`}},
		{"ids by the person's word", "a", "A|2\n--\nmessage_id\n", Options{Format: IDs}, []string{
			`1 message_id="A|2"`, `2 message_id="--"`, "3 fault  looks like column names, of another file perhaps, and not like a message; leave it out"}},
		{"csv with headers in between", "a", "message_id,ref\nA1,x\nmessage_id,ref\nprovider,msg_id,ref\n id ,x\n--,--\nB2,message_id\n", Options{}, []string{
			`2 message_id="A1" ref="x"`,
			"3 fault  looks like column names, of another file perhaps, and not like a message; leave it out",
			"4 fault  looks like column names, of another file perhaps, and not like a message; leave it out",
			"5 fault  looks like column names, of another file perhaps, and not like a message; leave it out",
			"6 fault  looks like a line of a table for people to read; export CSV, or one id a line",
			`7 message_id="B2" ref="message_id"`}},
		{"csv with headers of mapped columns in between", "a", "key\nA1\nkey\n", Options{Columns: map[string]string{"key": "message_id"}}, []string{
			`2 message_id="A1"`, "3 fault  looks like column names, of another file perhaps, and not like a message; leave it out"}},
		{"ndjson with a field twice, once as nothing", "a", `{"message_id":"x1","msgid":null}` + "\n" + `{"msgid":"","app":"a","message_id":"x2"}` + "\n" +
			`{"message_id":"x3","message_id":null}` + "\n" + `{"message_id":"x4","msgid":null,"msgid":null}` + "\n", Options{}, []string{
			`1 message_id="x1"`, `2 app="a" message_id="x2"`, "3 fault message_id is given twice", "4 fault message_id is given twice, as message_id and as msgid"}},
		{"latin-1 far into the file", "a", "message_id,ref\n" + strings.Repeat("A1,x\n", MaxRow) + "B2,caf\xe9\n", Options{}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, _ := read(t, test.file, test.text, test.opt)
			if test.want == nil { // only the last row matters
				rows = rows[len(rows)-1:]
				test.want = []string{"65538 fault  not UTF-8; it looks like Latin-1 or Windows-1252 (Western Windows): convert the input"}
			}
			if diff := cmp.Diff(test.want, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownColumnsAreNamedOnce(t *testing.T) {
	t.Parallel()
	_, warnings := read(t, "export.csv", "message_id,colour,shape,\nA1,red,round,\nB2,blue,square,\n", Options{})
	want := []string{`export.csv: ignored 2 columns that recallq does not use: "colour", "shape"`}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	utf16 := func(text string) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			b.WriteByte(c)
			b.WriteByte(0)
		}
		return b.String()
	}
	tests := []struct {
		name, file, text string
		opt              Options
		want             string
	}{
		{"empty", "a", "", Options{}, "a: has no rows"},
		{"only comments", "a", "# nothing\n\n", Options{}, "a: has no rows"},
		{"only a header", "a", "message_id,ref\n", Options{}, "a: has no rows"},
		{"an array", "a", `[{"message_id":"1"}]`, Options{}, "a: is a JSON array; one object a line is needed: jq -c '.[]' makes that"},
		{"pretty JSON", "a", "{\n  \"message_id\": 1\n}\n", Options{}, "a: is JSON with line breaks inside its objects; one object a line is needed: jq -c . makes that"},
		{"no header", "a", "A1,B2\nA3,B4\n", Options{}, `a: the format cannot be told from the first line, "A1,B2"; a CSV file begins with its column names, ` +
			`one of which is message_id or a vendor's name for it; say otherwise with --format or --columns`},
		{"a table", "a", " message_id | sent_at\n------------+--------\n", Options{}, `a: its first line, "message_id | sent_at", looks like a line of a table for people to read; export CSV, or one id a line; if it is an id, use --format ids`},
		{"gzipped twice", "a.gz", string(zip(t, string(zip(t, "A1\n")))), Options{}, "a.gz: is gzipped twice; unzip it once"},
		{"no message_id", "a", "provider,colour\njiguang,red\n", Options{}, `a: no column holds message_id; it has "provider", "colour"; say which one with --columns message_id=NAME`},
		{"a column twice", "a", "message_id,ref,ref\n1,2,3\n", Options{}, `a: two columns are named "ref"; rename or drop one`},
		{"an unknown column twice", "a", "message_id,x,x\n1,2,3\n", Options{}, `a: two columns are named "x"; rename or drop one`},
		{"a field twice", "a", "message_id,msgid\n1,2\n", Options{}, `a: the columns "message_id" and "msgid" both mean message_id; rename or drop one`},
		{"UTF-16 with a mark", "a", "\xFF\xFE" + utf16("A1\r\n"), Options{}, `a: is not UTF-8; it looks like UTF-16 (in a spreadsheet: "Unicode text"): convert it first`},
		{"UTF-16 without", "a", utf16("message_id\r\nA1\r\n"), Options{}, "a: is not UTF-8; it looks like UTF-16 without a byte order mark: convert it first"},
		{"GBK", "a", "message_id,ref\nA1,\xb3\xb7\xbb\xd8\xcf\xfb\xcf\xa2\n", Options{}, "a: is not UTF-8; it looks like GBK or GB18030 (Chinese Windows): convert it first"},
		{"Latin-1", "a", "message_id,ref\nA1,M\xfcller caf\xe9\n", Options{}, "a: is not UTF-8; it looks like Latin-1 or Windows-1252 (Western Windows): convert it first"},
		{"a workbook", "a.xlsx", "PK\x03\x04\x14\x00", Options{}, "a.xlsx: is not UTF-8; it looks like a zip file or a spreadsheet's own format (.xlsx); save it as CSV in UTF-8: convert it first"},
		{"CR alone", "a", "message_id\rA1\rB2\r", Options{}, "a: its lines end in CR alone; convert them to LF or CRLF"},
		{"not gzip", "a.gz", "A1\n", Options{}, "a.gz: is named .gz and is not gzip; rename it, or compress it again"},
		{"damaged gzip", "a.gz", "\x1f\x8bnonsense that is long enough", Options{}, "a.gz: is damaged: gzip: invalid header"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.opt.Warn = func(string) {}
			_, err := NewReader(test.file, strings.NewReader(test.text), test.opt)
			var bad *BadInput
			if !errors.As(err, &bad) {
				t.Fatalf("error is %v, want a BadInput", err)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMappedColumnThatIsMissing(t *testing.T) {
	t.Parallel()
	r, err := NewReader("a", strings.NewReader("message_id\nA1\n"), Options{Columns: map[string]string{"creatd": "sent_at"}, Warn: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"creatd"}, r.Missing()); diff != "" {
		t.Error(diff)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ids.txt.gz")
	if err := os.WriteFile(path, zip(t, "A1\nB2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path, nil, Options{Warn: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, want := range []string{"A1", "B2"} {
		item, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := item.Row.Get("message_id"); got != want {
			t.Errorf("id is %q, want %q", got, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("error at the end is %v", err)
	}
	for _, missing := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "no such file or directory"},
		{dir, "is a folder; give its files one by one with --file"},
	} {
		_, err := Open(missing.path, nil, Options{})
		if err == nil || err.Error() != missing.path+": "+missing.want {
			t.Errorf("error is %v", err)
		}
	}
}

// TestCutOffGzip: a download that broke off must not pass for the whole list, and the half line at its end is no id.
func TestCutOffGzip(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&text, "%d\n", 1_000_000+i*7919)
	}
	whole := zip(t, text.String())
	r, err := NewReader("ids.gz", bytes.NewReader(whole[:len(whole)/2]), Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for {
		item, err := r.Next()
		if err == nil {
			last = item.Line
			if id, _ := item.Row.Get("message_id"); id != fmt.Sprint(1_000_000+(last-1)*7919) {
				t.Fatalf("line %d is %q", last, id)
			}
			continue
		}
		want := fmt.Sprintf("ids.gz: reading stopped after line %d: unexpected EOF", last)
		if err.Error() != want {
			t.Fatalf("error is %q, want %q", err, want)
		}
		return
	}
}

func zip(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A row of a pipe that is filled slowly is handed out when it is there, not when the next one is.
func TestRowsOfASlowPipeDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"ids":    {"\n# comment\n", "A1\n", "A2\n"},
		"ndjson": {`{"message_id":"A1"}` + "\n", `{"message_id":"A2"}` + "\n"},
		"csv":    {"message_id,", "sent_at\n", "A1,1795181152\n", "A2,1795181152\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stream, in := io.Pipe()
				next := make(chan struct{})
				go func() {
					for i, text := range lines {
						if i == len(lines)-1 {
							<-next
						}
						_, _ = io.WriteString(in, text)
					}
					in.Close()
				}()
				r, err := NewReader("stdin", stream, Options{Warn: func(string) {}})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					item, err := r.Next()
					if id, _ := item.Row.Get("message_id"); err != nil || id != fmt.Sprint("A", i+1) {
						t.Errorf("%+v, %v", item, err)
					}
					if i == 0 {
						close(next)
					}
				}
				if _, err := r.Next(); !errors.Is(err, io.EOF) {
					t.Error(err)
				}
			})
		})
	}
}

// What is inside of a quoted cell is never a row, however long the cell is; a stray quote costs its own line only.
func TestTextInAQuotedCellIsNoRow(t *testing.T) {
	t.Parallel()
	lines, long := strings.Repeat("lorem ipsum\n", 6000), strings.Repeat("x", MaxRow+1)
	ids := strings.Repeat("400,x\n", 6000)
	for name, test := range map[string]struct {
		text string
		want []string // ids; or - for a refused row
	}{
		"many lines":                    {"100,\"" + lines + "200,fake\n\"\n300,short\n", []string{"-", "300"}},
		"its first line is too long":    {"100,\"" + long + "\n200,fake\n\"\n300,short\n", []string{"-", "300"}},
		"a line inside is too long":     {"100,\"a\n" + long + "\n200,fake\n\"\n300,short\n", []string{"-", "300"}},
		"its last line is too long":     {"100,\"a\n200,fake\n" + long + "\"\n300,short\n", []string{"-", "300"}},
		"a long line without quotes":    {"100," + long + "\n200,b\n", []string{"-", "200"}},
		"a stray quote to the end":      {"100,\"a\n200,b\n300,c\n", []string{"-", "200", "300"}},
		"a stray quote, a cell far off": {"100,\"a\n" + ids + ids + "300,\"c\"\n", append(append([]string{"-"}, slices.Repeat([]string{"400"}, 12000)...), "300")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := NewReader("a.csv", strings.NewReader("message_id,ref\n"+test.text), Options{Warn: func(string) {}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				item, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				id, _ := item.Row.Get("message_id")
				if item.Fault != nil {
					id = "-"
				}
				got = append(got, id)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What the person said goes before what a column's name means by itself.
func TestColumnsGoBeforeAliases(t *testing.T) {
	t.Parallel()
	rows, warnings := read(t, "a.csv", "msg_id,vendor_msgid\n7,A1\n", Options{Columns: map[string]string{"vendor_msgid": "message_id"}})
	if diff := cmp.Diff([]string{`2 message_id="A1"`}, rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`a.csv: ignored 1 column that recallq does not use: "msg_id"`}, warnings); diff != "" {
		t.Error(diff)
	}
}

// What the person said of a key goes before what another key's name means by itself, in the rows that have it.
func TestColumnsGoBeforeAliasesInNDJSON(t *testing.T) {
	t.Parallel()
	text := `{"vendor_id":"v1","msgid":"internal-7"}` + "\n" + `{"message_id":"internal-8","vendor_id":"v2"}` + "\n" + `{"msgid":"v3"}` + "\n"
	rows, warnings := read(t, "a.ndjson", text, Options{Columns: map[string]string{"vendor_id": "message_id"}})
	if diff := cmp.Diff([]string{`1 message_id="v1"`, `2 message_id="v2"`, `3 message_id="v3"`}, rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`a.ndjson: ignored "msgid" where --columns names another key for the same field`}, warnings); diff != "" {
		t.Error(diff)
	}
}

// What --columns names and no row has is known at the end.
func TestMappedKeysThatAreMissing(t *testing.T) {
	t.Parallel()
	columns := map[string]string{"when": "sent_at", "account": "from", "creatd": "ref"}
	r, err := NewReader("a.ndjson", strings.NewReader(`{"message_id":"1","when":1}`+"\n"+`{"message_id":"2","account":"x"}`), Options{Columns: columns})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if item, err := r.Next(); err != nil || item.Fault != nil {
			t.Fatalf("%+v, %v", item, err)
		}
	}
	if diff := cmp.Diff([]string{"creatd"}, r.Missing()); diff != "" {
		t.Error(diff)
	}
}

// What the flags gave a row is in its reject, so that it means the same without them.
func TestRejectsNeedNoFlags(t *testing.T) {
	t.Parallel()
	opt := tasks.RowOptions{
		Defaults: map[string]string{"provider": "timchat", "app": "chat", "from": "admin", "sent_at": "2026-11-20T01:00:00Z"},
		TimeZone: time.FixedZone("", 8*3600),
	}
	tests := []struct{ name, text, want string }{
		{"a", "x", `{"message_id":"x","provider":"timchat","app":"chat","sent_at":"2026-11-20T01:00:00Z","from":"admin","reject_reason":"why"}`},
		{"a.ndjson", `{"MsgKey":"x","From_Account":"me","app":null,"sent_at":1795181152,"colour":"red"}`,
			`{"MsgKey":"x","From_Account":"me","sent_at":1795181152,"colour":"red","provider":"timchat","app":"chat","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"x","provider":"jiguang","sentTime":"2026-11-20 01:55:10"}`,
			`{"message_id":"x","provider":"jiguang","sentTime":"2026-11-19T17:55:10.000Z","app":"chat","reject_reason":"why"}`},
		{"a.ndjson", `{"colour":"red","message_id":"x","provider":"jiguang","sentTime":"2026-11-20T05:00:00Z"}`,
			`{"colour":"red","message_id":"x","provider":"jiguang","sentTime":"2026-11-20T05:00:00Z","app":"chat","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"x","message_id":"y","sent_at":1795181152,"app":"home"}`,
			`{"message_id":"x","message_id":"y","sent_at":1795181152,"app":"home","provider":"timchat","from":"admin","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"x","provider":"nobody"}`,
			`{"message_id":"x","provider":"nobody","app":"chat","sent_at":"2026-11-20T01:00:00Z","reject_reason":"why"}`},
		{"a.csv", "message_id,sent_at,ref\nx,2026-11-20 01:55:10,1\n",
			`{"message_id":"x","sent_at":"2026-11-19T17:55:10.000Z","ref":"1","provider":"timchat","app":"chat","from":"admin","reject_reason":"why"}`},
	}
	for _, test := range tests {
		r, err := NewReader(test.name, strings.NewReader(test.text), Options{Warn: func(string) {}})
		if err != nil {
			t.Fatal(err)
		}
		item, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, string(item.Filled(opt).AppendReject(nil, "why"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.text, diff)
		}
	}
}

func TestRejectsAreInput(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"a.ndjson", `{"provider":"jiguang","message_id":18282567571828256757,"colour":"red"}`,
			`{"provider":"jiguang","message_id":18282567571828256757,"colour":"red","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"<b>","reject_reason":"earlier"}`, `{"message_id":"<b>","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1","message_id":"2"}`, `{"message_id":"1","message_id":"2","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1","message_id":null}`, `{"message_id":"1","message_id":null,"reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1"}]`, `{"reject_line":"{\"message_id\":\"1\"}]","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1"}}`, `{"reject_line":"{\"message_id\":\"1\"}}","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1","error":"` + strings.Repeat("x", 65_000) + `","code":"c"}`, `{"message_id":"1","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":"1","code":"1","code":"1"}`, `{"message_id":"1","code":"1","code":"1","reject_reason":"why"}`},
		{"a.ndjson", `{"message_id":`, `{"reject_line":"{\"message_id\":","reject_reason":"why"}`},
		{"a.ndjson", `{"reject_line":"x,y","reject_reason":"earlier"}`, `{"reject_line":"x,y","reject_reason":"why"}`},
		{"a.csv", "message_id,ref,colour\nA1,\"a \"\"b\"\"\",red", `{"message_id":"A1","ref":"a \"b\"","reject_reason":"why"}`},
		{"a.csv", "message_id,ref\nA1", `{"reject_line":"A1","reject_reason":"why"}`},
		{"a", "A1", `{"message_id":"A1","reject_reason":"why"}`},
	}
	for _, test := range tests {
		r, err := NewReader(test.name, strings.NewReader(test.text), Options{Warn: func(string) {}})
		if err != nil {
			t.Fatal(err)
		}
		item, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, string(item.AppendReject(nil, "why"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.text, diff)
		}
	}
}
