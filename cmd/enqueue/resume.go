package main

import "strings"

// resume is the command that goes on where this run stopped.
func (e *enqueuing) resume() string {
	var more []string
	if e.set.generated {
		more = append(more, "--batch", e.set.batch)
	}
	if e.set.sentAt != "" { // an age would mean another time later
		more = append(more, "--sent-at", e.set.sentAt)
	}
	words := []string{"enqueue"}
	added := false
	for _, arg := range e.p.args {
		if arg == "--" && !added {
			words, added = append(words, more...), true
		}
		words = append(words, shellQuote(arg))
	}
	if !added {
		words = append(words, more...)
	}
	return strings.Join(words, " ")
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
