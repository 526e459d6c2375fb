// Command enqueue puts recalls into the queue: a few ids from the command line, or files of any size.
//
// It needs a Redis URL and no secrets of any vendor: workers publish their lanes in Redis. Each subcommand is in a file of
// its own; run.go builds them and maps every ending to an exit code.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // --time-zone also works in an image without a time zone database
)

// A run keeps little and leaves much garbage: the runtime lets it grow further than by default, which takes a fifth less time, and collects
// it more often from softMemory on.
const (
	softMemory = 40 << 20
	growth     = 300 // percent
)

func main() {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(growth)
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}
