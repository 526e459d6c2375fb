package providertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
)

// short is the Timeout in tests that run into it.
const short = 500 * time.Millisecond

// testConnection: whatever happens on the way is Unavailable, and says whether the vendor may have seen the request.
func testConnection(t *testing.T, h Harness) {
	success := h.Success("")
	drip := func(conn net.Conn) {
		for tick := time.Tick(5 * time.Millisecond); ; <-tick {
			if _, err := io.WriteString(conn, " "); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name      string
		handle    func(conn net.Conn, n int)
		maybeDone bool
		code      string
		is        error
	}{
		{"refused", nil, false, "", syscall.ECONNREFUSED},
		{"reset before the request was read", func(conn net.Conn, _ int) {
			// One byte, so that the connection certainly stood.
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				reset(conn)
			}
		}, true, "", nil},
		{"reset after the request was read", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				reset(conn)
			}
		}, true, "", nil},
		{"closed after the request was read", func(conn net.Conn, _ int) { readRequest(conn) }, true, "", nil},
		{"hang", func(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) }, true, "", context.DeadlineExceeded},
		{"slow drip of the head", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Slow: ")
				drip(conn)
			}
		}, true, "", context.DeadlineExceeded},
		{"slow drip of the body", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+success)
				drip(conn)
			}
		}, true, "HTTP 200", context.DeadlineExceeded},
		{"body cut off", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(success)+1, success)
			}
		}, true, "HTTP 200", io.ErrUnexpectedEOF},
		{"chunked body cut off", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(success), success)
			}
		}, true, "HTTP 200", io.ErrUnexpectedEOF},
		{"body reset", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n"+success)
				reset(conn)
			}
		}, true, "", nil},
		{"no HTTP", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n")
			}
		}, true, "", nil},
		{"endless head", func(conn net.Conn, _ int) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-Large: "+strings.Repeat("x", 1000)+"\r\n", 12_000))
			}
		}, true, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := closedPort(t)
			if c.handle != nil {
				url = raw(t, c.handle)
			}
			timeout := time.Minute
			if errors.Is(c.is, context.DeadlineExceeded) {
				timeout = short
			}
			began := time.Now()
			_, err := h.provider(t, url, providers.Options{Timeout: timeout}).Recall(t.Context(), h.Request)
			took := time.Since(began)
			f := fault(t, err, h.Secrets)
			if f == nil {
				t.Fatal("the recall was accepted")
			}
			if f.Kind != providers.Unavailable || f.MaybeDone != c.maybeDone {
				t.Errorf("kind is %s, MaybeDone %t; want %s and %t (%v)", f.Kind, f.MaybeDone, providers.Unavailable, c.maybeDone, f)
			}
			if c.code != "" && f.Code != c.code {
				t.Errorf("code is %q, want %q", f.Code, c.code)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error is %v, want %v in it", err, c.is)
			}
			if timeout == short && took > 10*time.Second {
				t.Errorf("the call took %s with a timeout of %s", took, short)
			}
		})
	}
}

// readRequest reads a request whole.
func readRequest(conn net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// closedPort returns a URL on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// testOneRequest: a Recall is one request. It is not sent again when a connection that had been idle breaks, and no
// redirect is followed.
func testOneRequest(t *testing.T, h Harness) {
	t.Run("idle connection breaks", func(t *testing.T) {
		t.Parallel()
		var requests atomic.Int32
		success := h.Success("")
		url := raw(t, func(conn net.Conn, _ int) {
			in := bufio.NewReader(conn)
			for {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if requests.Add(1) != 1 {
					return
				}
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(success), success)
			}
		})
		p := h.provider(t, url, providers.Options{})
		if _, err := p.Recall(t.Context(), h.Request); err != nil {
			t.Fatalf("first recall: %v", err)
		}
		_, err := p.Recall(t.Context(), h.Request)
		f := fault(t, err, h.Secrets)
		if f == nil || f.Kind != providers.Unavailable || !f.MaybeDone {
			t.Errorf("second recall: got %v, want Unavailable and MaybeDone", f)
		}
		if n := requests.Load(); n != 2 {
			t.Errorf("the vendor was sent %d requests for 2 recalls", n)
		}
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprintf("redirect %d", status), func(t *testing.T) {
			t.Parallel()
			elsewhere := serve(t, reply(http.StatusOK, h.Success("")))
			v := serve(t, func(w http.ResponseWriter, s seen) {
				http.Redirect(w, s.Request, elsewhere.URL+s.RequestURI, status)
			})
			_, f := h.recall(t, v, providers.Options{})
			want(t, f, providers.Misconfigured, fmt.Sprintf("HTTP %d", status), false)
			if n := len(elsewhere.requests()); n != 0 {
				t.Errorf("the redirect was followed: %d requests", n)
			}
		})
	}
}

// testContext: Recall returns within 100 ms of its context being done, whatever the vendor does.
func testContext(t *testing.T, h Harness) {
	t.Run("done before the call", func(t *testing.T) {
		t.Parallel()
		v := serve(t, reply(http.StatusOK, h.Success("")))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := h.provider(t, v.URL, providers.Options{}).Recall(ctx, h.Request)
		f := fault(t, err, h.Secrets)
		if f == nil || f.Kind != providers.Unavailable || f.MaybeDone || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Unavailable, not MaybeDone, with context.Canceled", f)
		}
		if n := len(v.requests()); n != 0 {
			t.Errorf("the vendor was sent %d requests", n)
		}
	})
	for _, c := range []struct {
		name, head string
	}{
		{"hang", ""},
		{"hang in the head", "HTTP/1.1 200 OK\r\nContent-"},
		{"hang in the body", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// A busy machine may be late once; a provider that is late is so every time.
			var took time.Duration
			for range 5 {
				if took = h.cancelDuring(t, c.head); took <= 100*time.Millisecond {
					return
				}
			}
			t.Errorf("Recall returned %s after its context was done, at most 100 ms are allowed", took)
		})
	}
	t.Run("deadline of the caller", func(t *testing.T) {
		t.Parallel()
		url := raw(t, func(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) })
		ctx, cancel := context.WithTimeout(t.Context(), short)
		defer cancel()
		_, err := h.provider(t, url, providers.Options{}).Recall(ctx, h.Request)
		if f := fault(t, err, h.Secrets); f == nil || f.Kind != providers.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want Unavailable with context.DeadlineExceeded", f)
		}
	})
	t.Run("trace of the caller", func(t *testing.T) {
		t.Parallel()
		var wrote atomic.Int32
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { wrote.Add(1) },
		})
		v := serve(t, reply(http.StatusOK, h.Success("")))
		if _, err := h.provider(t, v.URL, providers.Options{}).Recall(ctx, h.Request); err != nil {
			t.Fatal(err)
		}
		if wrote.Load() != 1 {
			t.Errorf("the caller's httptrace saw %d requests written, want 1", wrote.Load())
		}
	})
}

// cancelDuring cancels a call after the vendor has read the request and sent head, and returns how long Recall took then.
func (h Harness) cancelDuring(t *testing.T, head string) time.Duration {
	t.Helper()
	reached := make(chan struct{})
	url := raw(t, func(conn net.Conn, _ int) {
		if readRequest(conn) {
			_, _ = io.WriteString(conn, head)
			close(reached)
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	p := h.provider(t, url, providers.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := p.Recall(ctx, h.Request)
		done <- err
	}()
	select {
	case <-reached:
	case err := <-done:
		t.Fatalf("Recall returned before it was cancelled: %v", err)
	}
	began := time.Now()
	cancel()
	err := <-done
	took := time.Since(began)
	f := fault(t, err, h.Secrets)
	if f == nil || f.Kind != providers.Unavailable || !f.MaybeDone || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Unavailable and MaybeDone, with context.Canceled", f)
	}
	return took
}

// testConcurrent: 50 goroutines share a provider while its clock goes on from day to day, so that whatever it derives from
// its credentials and the time is renewed with all of them waiting for it. Every request is authentic at its time.
func testConcurrent(t *testing.T, h Harness) {
	const goroutines, days = 50, 12
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, clock.Load()).UTC() }
	v := serve(t, func(w http.ResponseWriter, s seen) {
		if err := h.Authentic(s.Request, s.body, now()); err != nil {
			t.Errorf("a request is not authentic: %v", err)
		}
		reply(http.StatusOK, h.Success(""))(w, s)
	})
	p := h.provider(t, v.URL, providers.Options{Now: now})
	for range days {
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				if _, err := p.Recall(t.Context(), h.Request); err != nil {
					t.Errorf("recall: %v", err)
				}
			})
		}
		wg.Wait()
		clock.Add(int64(25 * time.Hour))
	}
	if n := len(v.requests()); n != goroutines*days {
		t.Errorf("the vendor was sent %d requests for %d recalls", n, goroutines*days)
	}
}

// testOptions: the options are kept to, and a base URL that cannot be right is refused, without showing it.
func testOptions(t *testing.T, h Harness) {
	t.Run("path prefix", func(t *testing.T) {
		t.Parallel()
		v := serve(t, reply(http.StatusOK, h.Success("")))
		plain, prefixed := h.provider(t, v.URL, providers.Options{}), h.provider(t, v.URL+"/a%2Fb/", providers.Options{})
		for _, p := range []providers.Provider{plain, prefixed} {
			if _, err := p.Recall(t.Context(), h.Request); err != nil {
				t.Fatal(err)
			}
		}
		seen := v.requests()
		one, _, _ := strings.Cut(seen[0].RequestURI, "?")
		two, _, _ := strings.Cut(seen[1].RequestURI, "?")
		if two != "/a%2Fb"+one {
			t.Errorf("with the prefix /a%%2Fb/ the path is %s, without it %s", two, one)
		}
	})
	t.Run("close", func(t *testing.T) {
		t.Parallel()
		arrived, goOn := make(chan struct{}), make(chan struct{})
		v := serve(t, func(w http.ResponseWriter, s seen) {
			close(arrived)
			<-goOn
			reply(http.StatusOK, h.Success(""))(w, s)
		})
		p := h.provider(t, v.URL, providers.Options{})
		done := make(chan error, 1)
		go func() {
			_, err := p.Recall(t.Context(), h.Request)
			done <- err
		}()
		<-arrived
		p.Close()
		close(goOn)
		if err := <-done; err != nil {
			t.Errorf("Close disturbed a call in flight: %v", err)
		}
	})
	for _, bad := range []string{
		"api.example.com", "ftp://api.example.com", "https://", "https://user:hunter2hunter2@api.example.com",
		"https://api.example.com/?key=hunter2hunter2", "https://api.example.com/#x", "https://[::1", "://",
	} {
		t.Run("base URL "+bad, func(t *testing.T) {
			t.Parallel()
			p, err := h.New(providers.Options{BaseURL: bad})
			if err == nil {
				p.Close()
				t.Fatal("New took it")
			}
			var field *providers.FieldError
			if !errors.As(err, &field) || field.Field != "base_url" {
				t.Errorf("the error is %v, want a FieldError for base_url", err)
			}
			clean(t, fmt.Sprintf("%+v", err), append([]string{"hunter2"}, h.Secrets...))
		})
	}
	t.Run("vendor's own base URL", func(t *testing.T) {
		t.Parallel()
		p, err := h.New(providers.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		if !strings.HasPrefix(h.BaseURL, "https://") || strings.HasSuffix(h.BaseURL, "/") {
			t.Errorf("base URL %q is not https://host", h.BaseURL)
		}
	})
}
