// Command simulator serves the recall APIs of the five vendors, for staging, drills and tests: see
// [github.com/recallq/recallq/providers/providertest/simulator].
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}
