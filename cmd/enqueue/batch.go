package main

import (
	"crypto/rand"
	"strings"
	"time"
)

// newBatchName makes up a name that sorts by time and is short enough to be typed.
func newBatchName(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:4])
}
