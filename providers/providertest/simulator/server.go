package simulator

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a simulator on a listener of its own. It can be closed and opened again on the same address, to play a vendor that
// refuses connections. It is safe for concurrent use.
type Server struct {
	// URL is the base_url of all five vendors, such as "http://127.0.0.1:9999".
	URL string

	sim  *Simulator
	addr string

	mu      sync.Mutex
	http    *http.Server
	stopped chan struct{}
}

// Listen serves the simulator on an address such as "127.0.0.1:0". The caller closes the server.
func (s *Simulator) Listen(addr string) (*Server, error) {
	srv := &Server{sim: s, addr: addr}
	if err := srv.Open(); err != nil {
		return nil, err
	}
	srv.URL = "http://" + srv.addr
	return srv, nil
}

// Open listens again after a Close. On an open server it does nothing.
func (s *Server) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.addr, err)
	}
	s.addr = l.Addr().String()
	s.http = &http.Server{
		Handler:           s.sim,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // broken connections are what a simulator is for
	}
	s.stopped = make(chan struct{})
	go func(h *http.Server, stopped chan struct{}) {
		defer close(stopped)
		_ = h.Serve(l) // ends with ErrServerClosed
	}(s.http, s.stopped)
	return nil
}

// Close stops listening and breaks all connections off, calls in flight included. New calls are refused until Open. It
// returns when nothing is served any more; the ledger and the state stay.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return
	}
	_ = s.http.Close()
	<-s.stopped
	s.http = nil
}
