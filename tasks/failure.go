package tasks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Failure is a recall that ended without success, with why. As JSON it is a row of input: what a row has no field for is
// what input ignores, so that a report can be mended and fed back in.
type Failure struct {
	Recall  Recall // RecallBy, Batch and Seq among it
	ID      string // the task id
	Outcome Outcome
	Error   string // one line of at most 200 bytes
}

// MarshalJSON writes the fields of a row in their order, empty ones left out, then id, outcome, code, error, attempts,
// batch, seq, recall_by and finished_at.
func (f Failure) MarshalJSON() ([]byte, error) { return f.encode(true) }

// stored is MarshalJSON without what the place in Redis says already: batch, seq and, unless the payload was broken, id.
func (f Failure) stored() ([]byte, error) { return f.encode(false) }

func (f Failure) encode(full bool) ([]byte, error) {
	r := f.Recall
	for _, t := range []time.Time{r.SentAt, r.RecallBy, f.Outcome.FinishedAt} {
		if !writable(t) {
			return nil, fmt.Errorf("a time in the year %d cannot be written", t.Year())
		}
	}
	b := make([]byte, 0, 512)
	b = r.appendRow(b)
	if full || f.ID != r.ID() {
		b = appendText(b, "id", f.ID)
	}
	b = appendText(b, "outcome", f.Outcome.Outcome)
	b = appendText(b, "code", f.Outcome.Code)
	b = appendText(b, "error", f.Error)
	b = append(appendKey(b, "attempts"), strconv.Itoa(f.Outcome.Attempts)...)
	if full {
		b = appendText(b, "batch", r.Batch)
		b = append(appendKey(b, "seq"), strconv.FormatInt(r.Seq, 10)...)
	}
	b = appendWhen(b, "recall_by", r.RecallBy)
	b = appendWhen(b, "finished_at", f.Outcome.FinishedAt)
	b[0] = '{' // in place of the first comma
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. An ID that is not in it is the recall's own.
func (f *Failure) UnmarshalJSON(text []byte) error {
	var w struct {
		wireRecall
		ID         string   `json:"id"`
		Outcome    string   `json:"outcome"`
		Code       string   `json:"code"`
		Error      string   `json:"error"`
		Attempts   int      `json:"attempts"`
		FinishedAt wireTime `json:"finished_at"`
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("reading a failure: %w", err)
	}
	*f = Failure{
		Recall: w.recall(), ID: w.ID, Error: w.Error,
		Outcome: Outcome{Outcome: w.Outcome, Code: w.Code, Attempts: w.Attempts, FinishedAt: time.Time(w.FinishedAt)},
	}
	if f.ID == "" {
		f.ID = f.Recall.ID()
	}
	return nil
}
