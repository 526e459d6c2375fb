package ledger

import (
	"strconv"
	"time"
)

// Called reports whether a call was answered, or was an attempt, before.
func (s State) Called() bool { return s.Attempts > 0 || s.Refusals > 0 || s.Code != "" }

// WithMarks returns the state with what a producer took along when it moved the recall from the bulk to the urgent queue: the
// worker's marks at the old task, which travel as headers of the new one. They hold until something newer is on record.
func (s State) WithMarks(headers map[string]string) State {
	if s.Called() || s.Maybe {
		return s
	}
	count := func(name string) int64 {
		n, _ := strconv.ParseInt(headers[name], 10, 64)
		return max(n, 0)
	}
	s.Attempts, s.Refusals = int(count(fieldAttempts)), int(count(fieldRefusals))
	s.Maybe, s.Code = headers[fieldMaybe] == "1", headers[fieldCode]
	if at := count(fieldRefusedAt); at > 0 {
		s.RefusedAt = time.UnixMilli(at)
	}
	return s
}
