package input

import "testing"

func TestRejectsAreNDJSONWhateverTheirFileIsCalled(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Format{
		"{\"message_id\":\"a b\",\"reject_reason\":\"x\"}\n": NDJSON,
		"message_id,sent_at\na,1\n":                          CSV,
		"":                                                   CSV,
	} {
		if got, err := detect("rejects.csv", []byte(text), func(string) bool { return true }); err != nil || got != want {
			t.Errorf("%q is read as %s, %v; want %s", text, got, err, want)
		}
	}
}
