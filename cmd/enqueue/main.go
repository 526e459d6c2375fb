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

// softMemory is how much memory the runtime takes before it collects garbage more often. What a run keeps is far below it; by
// default a million rows would leave as much garbage again.
const softMemory = 40 << 20

func main() {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}
