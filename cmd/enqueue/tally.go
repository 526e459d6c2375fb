package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/recallq/recallq/tasks"
)

// tally counts what became of the rows. It is safe for concurrent use.
type tally struct {
	mu        sync.Mutex
	enqueued  int
	duplicate int
	expired   int
	invalid   int
	failed    int
	lost      bool // some of the failed were enqueued, and then lost by Redis

	dry                bool // a dry run's: nothing of it has happened
	replaced, promoted int
	standing           map[standing]int
	warned             map[tasks.Class]int
}

// standing is how the earlier recall of a duplicate stands, and in which batch it is.
type standing struct{ how, batch string }

// mostStandings bounds what is remembered of duplicates: a file may meet as many batches as it has rows.
const mostStandings = 20

const (
	// otherBatches stands for the batches beyond that.
	otherBatches = "\x00other"
	// thisBatch stands for the batch of a dry run, which has no name yet.
	thisBatch = "\x00this"
)

func (t *tally) result(batch string, res tasks.Result, warnings []tasks.Warning) {
	t.warn(warnings)
	t.mu.Lock()
	defer t.mu.Unlock()
	if res.Status == tasks.Enqueued {
		t.enqueued++
		if res.Replaced {
			t.replaced++
		}
		return
	}
	t.duplicate++
	if res.Promoted {
		t.promoted++
	}
	key := standing{res.Existing.Standing, res.Existing.Batch}
	if _, have := t.standing[key]; !have && len(t.standing) >= mostStandings && key.batch != batch {
		key.batch = otherBatches
	}
	if t.standing == nil {
		t.standing = make(map[standing]int)
	}
	t.standing[key]++
}

func (t *tally) warn(warnings []tasks.Warning) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range warnings {
		if t.warned == nil {
			t.warned = make(map[tasks.Class]int)
		}
		t.warned[w.Class]++
	}
}

func (t *tally) refuse(expired bool) {
	if expired {
		t.add(&t.expired)
		return
	}
	t.add(&t.invalid)
}

func (t *tally) fail() { t.add(&t.failed) }

// lose counts enqueued rows as failed that Redis does not know any more.
func (t *tally) lose(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enqueued -= n
	t.failed += n
	t.lost = true
}

func (t *tally) add(counter *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*counter++
}

// read is by definition the sum: a row counts as read once it is known what became of it.
func (t *tally) read() int { return t.enqueued + t.duplicate + t.expired + t.invalid + t.failed }

// code is the exit code that the counts alone lead to.
func (t *tally) code() int {
	switch {
	case t.failed > 0:
		return exitFailure
	case t.expired+t.invalid > 0:
		return exitRefused
	}
	return exitOK
}

// words says what the bare counts do not: what the duplicates are, what was replaced, what was warned of.
func (t *tally) words(batch string) []string {
	var lines []string
	if t.duplicate > 0 {
		lines = append(lines, "duplicates: "+strings.Join(t.duplicates(batch), ", "))
	}
	if t.promoted > 0 {
		lines = append(lines, fmt.Sprintf("of the duplicates, %d %s", t.promoted, t.sayPromoted()))
	}
	if t.replaced > 0 {
		lines = append(lines, fmt.Sprintf("of the enqueued, %d %s", t.replaced, t.sayReplaced()))
	}
	if n := t.warned[tasks.IDTime]; n > 0 {
		lines = append(lines, fmt.Sprintf("%s: sent_at is more than 5 minutes from the time in the id; the earlier of the two sets when the window closes", rows(n)))
	}
	if n := t.warned[tasks.NoText]; n > 0 {
		lines = append(lines, fmt.Sprintf("%s: neither offline_push_title nor offline_push_desc, so that users may go on seeing the old text", rows(n)))
	}
	return lines
}

func (t *tally) sayPromoted() string {
	n := int64(t.promoted)
	if t.dry {
		return plural(n, "waits", "wait") + " as bulk and would become urgent"
	}
	return "waited as bulk and " + plural(n, "is", "are") + " urgent now"
}

func (t *tally) sayReplaced() string {
	earlier := plural(int64(t.replaced), "a recall", "recalls")
	if t.dry {
		return "would take the place of " + earlier + " that ended without success"
	}
	return "took the place of " + earlier + " that had ended without success"
}

func (t *tally) duplicates(batch string) []string {
	keys := make([]standing, 0, len(t.standing))
	for k := range t.standing {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b standing) int {
		return cmp.Or(cmp.Compare(t.standing[b], t.standing[a]), cmp.Compare(a.batch, b.batch), cmp.Compare(a.how, b.how))
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%d %s %s", t.standing[k], sayStanding(k.how), sayBatch(k.batch, batch))
	}
	return parts
}

func sayStanding(how string) string {
	switch {
	case how == tasks.Open:
		return "still open"
	case tasks.Succeeded(how):
		return "ended well (" + how + ")"
	}
	return how
}

func sayBatch(theirs, ours string) string {
	switch theirs {
	case "":
		return "without a batch"
	case ours, thisBatch:
		return "in this batch"
	case otherBatches:
		return "in other batches"
	}
	return "in batch " + theirs
}

func rows(n int) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// line is the closing line.
func (t *tally) line() string {
	return fmt.Sprintf("read %d = enqueued %d + duplicate %d + expired %d + invalid %d + failed %d",
		t.read(), t.enqueued, t.duplicate, t.expired, t.invalid, t.failed)
}

// print writes the result: exactly the contract's keys as JSON, else the batch and the closing line.
func (t *tally) print(stdout io.Writer, batch string, asJSON bool) error {
	if !asJSON {
		if batch != "" {
			fmt.Fprintln(stdout, "batch "+batch)
		}
		_, err := fmt.Fprintln(stdout, t.line())
		return err
	}
	return json.NewEncoder(stdout).Encode(struct {
		Read      int    `json:"read"`
		Enqueued  int    `json:"enqueued"`
		Duplicate int    `json:"duplicate"`
		Expired   int    `json:"expired"`
		Invalid   int    `json:"invalid"`
		Failed    int    `json:"failed"`
		Batch     string `json:"batch"`
	}{t.read(), t.enqueued, t.duplicate, t.expired, t.invalid, t.failed, batch})
}
