package main

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/recallq/recallq/providers/providertest/simulator"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"worker": func() {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		os.Exit(run(os.Args[1:], os.LookupEnv, signals, os.Stdout, os.Stderr))
	}})
}

// Each script has a Redis of its own and the simulated vendors; their addresses are in REDIS and VENDORS, an address that
// nobody listens on is in NOBODY.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") == "1",
		Setup: func(env *testscript.Env) error {
			mr, err := miniredis.Run()
			if err != nil {
				return err
			}
			env.Defer(mr.Close)
			sim, err := simulator.New(simulator.Options{})
			if err != nil {
				return err
			}
			env.Defer(sim.Close)
			srv, err := sim.Listen("127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Defer(func() { srv.Close() })
			env.Setenv("REDIS", "redis://"+mr.Addr()+"/0")
			env.Setenv("VENDORS", srv.URL)
			env.Setenv("NOBODY", "redis://127.0.0.1:1/0")
			return nil
		},
	})
}
