package worker

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// discreet is a text without what the recall says of people: vendors quote sender, recipient and texts in their messages, and the
// log, asynq's page and a lane's hold are read by many who need not know them. The outcome on record keeps the vendor's words.
func discreet(r tasks.Recall, text string) string {
	private := []struct{ value, mark string }{
		{r.From, "[from]"}, {r.To, "[to]"}, {r.OfflinePushTitle, "[text]"}, {r.OfflinePushDesc, "[text]"}, {r.Extra, "[extra]"},
	}
	// One may be a part of another.
	slices.SortFunc(private, func(a, b struct{ value, mark string }) int { return cmp.Compare(len(b.value), len(a.value)) })
	for _, p := range private {
		for _, form := range forms(p.value) {
			text = blank(text, form, p.mark)
		}
	}
	return text
}

// forms are the ways in which a vendor may quote a value: as it is, as it stood in JSON, and as it stood in a form.
func forms(value string) []string {
	if value == "" {
		return nil
	}
	quoted, _ := json.Marshal(value)
	all := []string{value, string(quoted[1 : len(quoted)-1]), url.QueryEscape(value)}
	for i, form := range all {
		all[i] = providers.Line(form, len(form)+len("…")) // as it is in a fault's message
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(form string) bool { return form == "" })
}

const (
	// wordBelow is how long a value is, in bytes, that counts only as a word of its own: "a" is in every sentence.
	wordBelow = 6
	// tellTale is how much of a value still tells whose it is, where a message was cut.
	tellTale = 3
	cutMark  = "…"
)

// blank puts a mark in the place of a value, also where only its beginning has fitted into the text.
func blank(text, value, mark string) string {
	var b strings.Builder
	for rest := text; ; {
		before, after, found := strings.Cut(rest, value)
		if !found {
			text = b.String() + rest
			break
		}
		b.WriteString(before)
		if len(value) < wordBelow && (wordEnds(before, value) || wordBegins(value, after)) {
			b.WriteString(value)
		} else {
			b.WriteString(mark)
		}
		rest = after
	}
	head, cut := strings.CutSuffix(text, cutMark)
	if !cut {
		return text
	}
	for n := len(value) - 1; n >= tellTale; n-- {
		if begin, found := strings.CutSuffix(head, value[:n]); found {
			return begin + mark + cutMark
		}
	}
	return text
}

// wordEnds reports whether a word goes on from the text before into the value.
func wordEnds(before, value string) bool {
	return before != "" && isWord(before[len(before)-1]) && isWord(value[0])
}

// wordBegins reports whether a word goes on from the value into the text after it.
func wordBegins(value, after string) bool {
	return after != "" && isWord(value[len(value)-1]) && isWord(after[0])
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
