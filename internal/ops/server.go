package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// UI is how the page is served.
type UI struct {
	// Enabled serves the page under "/". Health, readiness and metrics are there in any case.
	Enabled bool
	// ReadOnly lets people look only; otherwise they can also run, pause and resume.
	ReadOnly bool
	// Username and Password are asked for if Password is set. An empty Username lets any name in with the password.
	Username, Password string
}

// Options are what a Server is made of.
type Options struct {
	// Redis is the worker's own client. It is never closed here.
	Redis redis.UniversalClient
	UI    UI
	// Ready is asked at each /readyz. It should return soon after its context is done.
	Ready func(context.Context) Readiness
	// Simulated tells of a lane whether what is called there is not the vendor; nil: none is known to be. It is asked for each
	// recall that the page shows.
	Simulated func(provider, app string) bool
	// Metrics answers /metrics.
	Metrics http.Handler
	Log     zerolog.Logger
}

// Server is an http.Handler, safe for concurrent use. It has no connection and no goroutine of its own, so that there is
// nothing to close.
type Server struct {
	handler http.Handler
	account atomic.Pointer[account]
}

// New returns the handler of all of a worker's HTTP. An error means that the options are incomplete, or that the embedded
// page is not the one that this package knows.
func New(opt Options) (*Server, error) {
	if opt.Ready == nil || opt.Metrics == nil {
		return nil, errors.New("ops: Ready and Metrics are needed")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthy)
	mux.Handle("GET /readyz", readyHandler(opt.Ready))
	mux.Handle("GET /metrics", opt.Metrics)
	s := &Server{}
	s.SetLogin(opt.UI.Username, opt.UI.Password)
	policy := strictPolicy
	if opt.UI.Enabled {
		page, err := newPage(opt)
		if err != nil {
			return nil, err
		}
		policy = page.policy
		mux.Handle("/", page.guarded(opt, &s.account))
	}
	s.handler = secured(policy, mux)
	return s, nil
}

// SetLogin replaces the name and the password that the page asks for. Without a password it answers to localhost only; that it
// cannot be reached from elsewhere is the caller's to see to.
func (s *Server) SetLogin(username, password string) { s.account.Store(newAccount(username, password)) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// shared hands the worker's own client to asynqmon. asynqmon's Close would close it, and is never called.
type shared struct{ redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (s shared) MakeRedisClient() any { return s.UniversalClient }

var _ asynq.RedisConnOpt = shared{}

func newPage(opt Options) (*page, error) {
	if opt.Redis == nil {
		return nil, errors.New("ops: the page needs Redis")
	}
	show := formatter{now: time.Now, simulated: opt.Simulated}
	inner := asynqmon.New(asynqmon.Options{
		RedisConnOpt:     shared{opt.Redis},
		ReadOnly:         opt.UI.ReadOnly,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(show.payload),
		ResultFormatter:  asynqmon.ResultFormatterFunc(show.result),
	})
	p, err := readPage(inner, opt.UI.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	return p, nil
}

// guarded puts everything in front of the page that a request has to pass, outermost first.
func (p *page) guarded(opt Options, current *atomic.Pointer[account]) http.Handler {
	var h http.Handler = p
	h = onlyActions(opt.UI.ReadOnly, h)
	h = sameOrigin(h)
	return login(current, opt.Log, h)
}
