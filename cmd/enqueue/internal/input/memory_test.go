package input

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// endless makes up the rows of a file as they are read, so that the file itself takes no memory.
type endless struct {
	head string
	row  func(n int) string
	rows int
	next int
	left string
}

func (e *endless) Read(p []byte) (int, error) {
	if e.head != "" {
		e.left, e.head = e.head, ""
	}
	for e.left == "" {
		if e.next == e.rows {
			return 0, io.EOF
		}
		e.next++
		e.left = e.row(e.next)
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

func chatCSV(n int) string {
	return fmt.Sprintf("%d_833502_1572869830,sender%d,\"user, %d\"\n", n, n%7, n)
}

func chatNDJSON(n int) string {
	return fmt.Sprintf("{\"message_id\":\"%d_833502_1572869830\",\"from\":\"sender%d\",\"to\":\"user %d\"}\n", n, n%7, n)
}

var shapes = []struct {
	name string
	head string
	row  func(int) string
}{
	{"csv", "MsgKey,From_Account,To_Account\n", chatCSV},
	{"ndjson", "", chatNDJSON},
	{"ids", "", func(n int) string { return fmt.Sprintf("%d_833502_1572869830\n", n) }},
	// A quote that is never closed, in every row.
	{"open quotes", "message_id,ref\n", func(n int) string { return fmt.Sprintf("%d,\"\"\"\n", n) }},
	// One line without an end.
	{"one line", "A1\n", func(n int) string { return strings.Repeat("x", 100) }},
}

// TestMemoryDoesNotGrow reads 200,000 rows and looks at the heap on the way.
func TestMemoryDoesNotGrow(t *testing.T) {
	const rows, bound = 200_000, 8 << 20
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			r, err := NewReader("stdin", &endless{head: shape.head, row: shape.row, rows: rows}, Options{Warn: func(string) {}})
			if err != nil {
				t.Fatal(err)
			}
			start := heap()
			for n := 1; ; n++ {
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if n%50_000 == 0 {
					if now := heap(); now > start+bound {
						t.Fatalf("after %d rows the heap has grown from %d to %d bytes", n, start, now)
					}
				}
			}
			if now := heap(); now > start+bound {
				t.Fatalf("at the end the heap has grown from %d to %d bytes", start, now)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkReader(b *testing.B) {
	for _, shape := range shapes[:3] {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			source := bufio.NewReaderSize(&endless{head: shape.head, row: shape.row, rows: b.N}, 1<<20)
			r, err := NewReader("stdin", source, Options{Warn: func(string) {}})
			if err != nil {
				b.Fatal(err)
			}
			for range b.N {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
