package tasks

import (
	"bytes"
	"unicode/utf8"
)

// GuessEncoding says what text that is not UTF-8 most likely is, in words that tell a person what to convert from. It returns ""
// for UTF-8.
func GuessEncoding(text []byte) string {
	switch {
	case bytes.HasPrefix(text, []byte{0xFF, 0xFE}), bytes.HasPrefix(text, []byte{0xFE, 0xFF}):
		return "UTF-16 (in a spreadsheet: \"Unicode text\")"
	case bytes.HasPrefix(text, []byte("PK\x03\x04")):
		return "a zip file or a spreadsheet's own format (.xlsx); save it as CSV in UTF-8"
	case bytes.IndexByte(text, 0) >= 0:
		return guessWithNUL(text)
	case utf8.Valid(text):
		return ""
	case looksLikeGBK(text):
		return "GBK or GB18030 (Chinese Windows)"
	}
	return "Latin-1 or Windows-1252 (Western Windows)"
}

// guessWithNUL tells UTF-16 without a mark from binary data: in UTF-16, mostly ASCII, every second byte is zero.
func guessWithNUL(text []byte) string {
	zeros := bytes.Count(text, []byte{0})
	if zeros*3 >= len(text) && zeros*3 <= len(text)*2 {
		return "UTF-16 without a byte order mark"
	}
	return "binary data"
}

// looksLikeGBK reports whether every byte above ASCII is part of a GB18030 pair or four, most of them in the range of
// GB 2312, where everyday Chinese is. Latin-1 text seldom has two letters with accents side by side.
func looksLikeGBK(text []byte) bool {
	pairs, everyday := 0, 0
	for i := 0; i < len(text); {
		lead := text[i]
		if lead < 0x80 {
			i++
			continue
		}
		if lead == 0x80 || lead == 0xFF {
			return false
		}
		if i+1 == len(text) {
			break
		}
		trail := text[i+1]
		switch {
		case trail >= '0' && trail <= '9':
			if i+3 < len(text) && (text[i+2] < 0x81 || text[i+3] < '0' || text[i+3] > '9') {
				return false
			}
			i += 4
		case trail >= 0x40 && trail != 0x7F && trail != 0xFF:
			if trail >= 0xA1 && lead >= 0xA1 {
				everyday++
			}
			i += 2
		default:
			return false
		}
		pairs++
	}
	return everyday*2 > pairs
}
