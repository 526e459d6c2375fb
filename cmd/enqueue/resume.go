package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
)

// sayResume says how to go on where this run stopped, and what that needs.
func (e *enqueuing) sayResume(err error) {
	var broken *input.ReadError
	if errors.As(err, &broken) {
		e.console.say("the batch waits until %s was read to its end; it has to be whole first", broken.Input)
	}
	if slices.Contains(e.set.files, input.Stdin) {
		e.console.say("standard input has to be given again, from its beginning")
	}
	if len(e.p.fromEnv) > 0 {
		e.console.say("set as now: %s", strings.Join(e.p.fromEnv, ", "))
	}
	how := "to go on from here"
	if e.batch.Cancelled() {
		how = "to go on after all, which withdraws the cancellation"
	}
	e.console.say("%s: %s", how, e.resume())
}

// resume is the command that goes on where this run stopped.
func (e *enqueuing) resume() string {
	more := e.resumeFlags()
	args := e.p.args
	if e.set.sentAt != "" {
		args = withoutFlag(args, "--sent-at")
	}
	words := []string{"enqueue"}
	if at := slices.Index(args, "--"); at >= 0 {
		args = slices.Concat(args[:at], more, args[at:])
	} else {
		args = slices.Concat(args, more)
	}
	return joinQuoted(append(words, args...))
}

// resumeFlags are the flags that a run with the same words needs to be the same run.
func (e *enqueuing) resumeFlags() (more []string) {
	if e.set.generated {
		more = append(more, "--batch", e.set.batch)
	}
	if e.set.sentAt != "" { // an age would mean another time later
		more = append(more, "--sent-at", e.set.sentAt)
	}
	return more
}

// withoutFlag leaves out a flag and its value.
func withoutFlag(args []string, flag string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(kept, args[i:]...)
		case args[i] == flag:
			i++
		case !strings.HasPrefix(args[i], flag+"="):
			kept = append(kept, args[i])
		}
	}
	return kept
}

// command is a command as it has to be typed to mean the same Redis, with its arguments.
func (p *program) command(words ...string) string { return p.place().command(words...) }

// place are the flags that have said where Redis is. Printed commands repeat them, as a hint that leads to another Redis is worse
// than none.
type place []string

func (p *program) place() place {
	var flags place
	for _, f := range []struct{ name, value string }{
		{"redis", p.common.redis}, {"redis-password-file", p.common.redisPasswordFile}, {"config", p.common.config},
	} {
		if f.value != "" && !slices.Contains(p.fromEnv, envName(f.name)) {
			flags = append(flags, "--"+f.name, f.value)
		}
	}
	return flags
}

func (f place) command(words ...string) string {
	return joinQuoted(slices.Concat([]string{"enqueue"}, words, f))
}

func joinQuoted(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = shellQuote(word)
	}
	return strings.Join(quoted, " ")
}

func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
