package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Require is the environment variable that turns the skip of a machine without redis-server into a failure.
const Require = "RECALLQ_REQUIRE_REDIS"

// readyWithin bounds a start: loading a large append-only file on a busy machine takes its time.
const readyWithin = 30 * time.Second

// Server is a redis-server that belongs to one test. It writes every command to its append-only file before it answers,
// so that what was answered is still there after Kill and Restart.
//
// Its methods fail the test when they cannot do what they say. They are for one goroutine at a time.
type Server struct {
	Addr string // "127.0.0.1:46379"
	URL  string // "redis://127.0.0.1:46379/0"

	t    testing.TB
	path string
	dir  string
	args []string
	proc *process
}

// process is one run of the program; done is closed once it has been waited for.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a redis-server until the test ends. args are passed on after its own and win over them, for example
// "--maxmemory", "10mb". A password is given with "--requirepass".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		missing(t)
	}
	s := &Server{t: t, path: path, dir: t.TempDir(), args: args}
	t.Cleanup(func() { s.end(os.Kill) })

	// Another program may take the port between the look and the start, so that is tried again.
	for try := 1; ; try++ {
		s.Addr, err = freeAddr()
		if err != nil {
			t.Fatalf("redistest: no free port: %v", err)
		}
		s.URL = "redis://" + s.Addr + "/0"
		err = s.run()
		if err == nil {
			return s
		}
		if try == 3 {
			t.Fatalf("redistest: redis-server does not start: %v\n%s", err, s.log())
		}
	}
}

func missing(t testing.TB) {
	t.Helper()
	if os.Getenv(Require) == "1" {
		t.Fatalf("redistest: no redis-server on PATH, and %s=1 asks for one", Require)
	}
	// A skip is shown with -v only; this line is seen in every run that prints anything.
	fmt.Fprintf(os.Stderr, "SKIPPED %s: no redis-server on PATH; install one to test against a real Redis\n", t.Name())
	t.Skip("no redis-server on PATH")
}

// Client returns a client of the server that is closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.password()})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// password is the one that was given with "--requirepass".
func (s *Server) password() string {
	if i := slices.Index(s.args, "--requirepass"); i >= 0 && i+1 < len(s.args) {
		return s.args[i+1]
	}
	return ""
}

// Kill ends the server as a power cut would end the process: SIGKILL, no farewell.
func (s *Server) Kill() {
	s.t.Helper()
	s.end(os.Kill)
}

// Stop ends the server in order.
func (s *Server) Stop() {
	s.t.Helper()
	s.end(os.Interrupt)
}

// Restart starts the server again on the same port with the data it had, ending it first if it still runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.end(os.Interrupt)
	if err := s.run(); err != nil {
		s.t.Fatalf("redistest: redis-server does not start again: %v\n%s", err, s.log())
	}
}

// Freeze stops the process without ending it: connections stay open and nothing answers.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal("freeze", freeze)
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() {
	s.t.Helper()
	s.signal("thaw", thaw)
}

func (s *Server) signal(what string, send func(*os.Process) error) {
	s.t.Helper()
	if s.proc == nil {
		s.t.Fatalf("redistest: cannot %s: the server does not run", what)
	}
	if err := send(s.proc.cmd.Process); err != nil {
		s.t.Fatalf("redistest: cannot %s: %v", what, err)
	}
}

func (s *Server) run() error {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	args := append([]string{
		"--bind", host, "--port", port, "--dir", s.dir, "--logfile", filepath.Join(s.dir, "redis.log"),
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
	}, s.args...)
	p, err := start(exec.Command(s.path, args...))
	if err != nil {
		return err
	}
	s.proc = p
	if err := s.ready(p); err != nil {
		s.end(os.Kill)
		return err
	}
	return nil
}

// start runs a program that ends with the test program.
func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = withParent()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ready waits until this very process answers: another Redis may have taken the port meanwhile.
func (s *Server) ready(p *process) error {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.password(), MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		pid, err := serverPID(ctx, c)
		if err == nil && pid == p.cmd.Process.Pid {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", readyWithin, err)
		case <-tick.C:
		}
	}
}

func serverPID(ctx context.Context, c *redis.Client) (int, error) {
	// go-redis logs each connection that is refused; this does not.
	conn, err := net.DialTimeout("tcp", c.Options().Addr, time.Second)
	if err != nil {
		return 0, err
	}
	_ = conn.Close()
	if err := c.Ping(ctx).Err(); err != nil { // "LOADING" while it reads its file
		return 0, err
	}
	info := c.InfoMap(ctx, "server")
	if err := info.Err(); err != nil {
		return 0, err
	}
	return strconv.Atoi(info.Item("Server", "process_id"))
}

func (s *Server) end(sig os.Signal) {
	if s.proc == nil {
		return
	}
	p := s.proc
	s.proc = nil
	if sig != os.Kill {
		_ = thaw(p.cmd.Process)
		_ = p.cmd.Process.Signal(sig)
		select {
		case <-p.done:
			return
		case <-time.After(10 * time.Second):
		}
	}
	p.kill()
}

func (s *Server) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		return "(no log)"
	}
	const most = 4096
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
