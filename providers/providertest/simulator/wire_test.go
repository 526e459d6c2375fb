package simulator

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWire sends requests written by hand, byte for byte, and compares the answers byte for byte, Date left out.
func TestWire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) != 5 {
		t.Fatalf("wire fixtures: %v, %v; want five", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n== ")
	if !strings.HasPrefix(parts[0], "Seed 00") {
		t.Fatalf("%s does not say at its top which seed it was written from", file)
	}
	now := time.Time{}
	var sim *Simulator
	var srv *Server
	answer, calls := "", 0
	for _, part := range parts[1:] {
		head, body, _ := strings.Cut(part+"\n", "\n")
		word, argument, _ := strings.Cut(head, " ")
		switch word {
		case "clock":
			if now, err = time.Parse(time.RFC3339, argument); err != nil {
				t.Fatal(err)
			}
			sim, srv = start(t, Options{Now: func() time.Time { return now }})
		case "know":
			if _, err := sim.Load(strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		case "advance":
			d, err := time.ParseDuration(argument)
			if err != nil {
				t.Fatal(err)
			}
			sim.Advance(d)
		case "request":
			calls++
			answer = exchange(t, srv, body)
		case "response":
			if diff := cmp.Diff(strings.TrimSuffix(body, "\n"), answer); diff != "" {
				t.Errorf("call %d (- wanted, + got):\n%s", calls, diff)
			}
		default:
			t.Fatalf("unknown section %q", head)
		}
	}
	if got := len(sim.Ledger()); got != calls || calls == 0 {
		t.Errorf("ledger has %d calls, want %d", got, calls)
	}
}

// exchange sends one request on a connection of its own and returns the answer with plain line ends and without its Date.
func exchange(t *testing.T, srv *Server, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head, body, _ := strings.Cut(request, "\n\n")
	raw := strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + strings.TrimSuffix(body, "\n")
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	r, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &got)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	var lines []string
	for line := range strings.SplitSeq(got.String(), "\n") {
		if !strings.HasPrefix(line, "Date: ") {
			lines = append(lines, strings.TrimSuffix(line, "\r"))
		}
	}
	return strings.Join(lines, "\n")
}

// start builds a simulator and serves it until the test ends.
func start(t *testing.T, opt Options) (*Simulator, *Server) {
	t.Helper()
	sim, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close(); srv.Close() })
	return sim, srv
}
