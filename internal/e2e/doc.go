// Package e2e tries the programs as they are run: separate processes, a real Redis that is killed and restarted, and the
// simulator enforcing the vendors' limits by its own clock.
//
// What takes minutes runs only with RECALLQ_LONG=1.
package e2e
