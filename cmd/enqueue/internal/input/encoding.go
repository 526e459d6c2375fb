package input

import (
	"unicode/utf8"

	"github.com/recallq/recallq/tasks"
)

// guessEncoding says what text that is not UTF-8 most likely is; "" for UTF-8. Unless the text is whole, it may end in the middle
// of a character.
func guessEncoding(text []byte, whole bool) string {
	if !whole && validPrefix(text) {
		return ""
	}
	return tasks.GuessEncoding(text)
}

// validPrefix reports whether the text is UTF-8 but for a character that is cut off at its end.
func validPrefix(text []byte) bool {
	for cut := 1; cut < utf8.UTFMax && cut < len(text); cut++ {
		if utf8.Valid(text[:len(text)-cut]) {
			return !utf8.FullRune(text[len(text)-cut:])
		}
	}
	return false
}
