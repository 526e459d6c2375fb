package providertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const fixture = `# seed 002: something
# more
-- request --
POST https://host/v4/x?random={random} HTTP/1.1
Content-Type: application/json

{"TaskId": "1_2"}
-- answer --
HTTP/1.1 400 Bad Request
Content-Type: text/html

<p>

</p>
`

func read(t *testing.T, text string) (Exchange, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.wire")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadExchange(file)
}

func TestReadExchange(t *testing.T) {
	t.Parallel()
	e, err := read(t, fixture)
	if err != nil {
		t.Fatal(err)
	}
	if e.Source != "seed 002: something" || e.Method != "POST" || e.URL != "https://host/v4/x?random={random}" ||
		e.Header.Get("Content-Type") != "application/json" || e.Body != `{"TaskId": "1_2"}` {
		t.Errorf("request: %+v", e)
	}
	if e.Status != 400 || e.AnswerHeader.Get("Content-Type") != "text/html" || e.AnswerBody != "<p>\n\n</p>" {
		t.Errorf("answer: %+v", e)
	}
	for name, text := range map[string]string{
		"no source":    strings.TrimPrefix(fixture, "# seed 002: something\n# more\n"),
		"no request":   strings.Replace(fixture, "-- request --", "", 1),
		"no answer":    strings.Replace(fixture, "-- answer --", "", 1),
		"request line": strings.Replace(fixture, "{random} HTTP/1.1", "", 1),
		"status":       strings.Replace(fixture, "400", "four", 1),
		"status line":  strings.Replace(fixture, "HTTP/1.1 400 Bad Request", "", 1),
	} {
		if _, err := read(t, text); err == nil {
			t.Errorf("%s: the fixture is taken", name)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fixture, got string
		want         bool
	}{
		{"a?b=c", "a?b=c", true},
		{"a?b=c", "a?b=cd", false},
		{"a.c", "abc", false},
		{"r={random}&x=1", "r=42&x=1", true},
		{"r={random}&x=1", "r=&x=1", false},
		{"r={random}&x=1", "r=4&y=2&x=1", false},
		{`{"a":"{usersig}"}`, `{"a":"b"}`, true},
		{"", "", true},
		{"", "x", false},
	} {
		if got := matches(c.fixture, c.got); got != c.want {
			t.Errorf("%q and %q: %t", c.fixture, c.got, got)
		}
	}
}
