// Command worker takes messages back: it carries out the recalls that producers have put into Redis.
package main

import (
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // limits name time zones, and a small image has no database of them
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(run(os.Args[1:], os.LookupEnv, signals, os.Stdout, os.Stderr))
}
