package tasks

import (
	"errors"
	"fmt"

	"github.com/recallq/recallq/providers"
)

// ErrExpired is what a [FieldError] wraps when nothing is wrong with the recall except that its window has closed.
var ErrExpired = errors.New("the recall window has closed")

// ErrUnserved is what a [FieldError] wraps when no worker has ever published the recall's lane.
var ErrUnserved = errors.New("no worker has ever published this lane")

// FieldError says which field of a recall is refused, and why. It is what a person sees of a refused row.
//
// Functions that return a *FieldError return nil where nothing is refused. Compare that before it becomes an error: in a variable of type
// error a nil *FieldError is not nil.
type FieldError struct {
	Field  string // as in NDJSON and CSV headers: "message_id"; "row" when no field can be named
	Value  string // what it held, shortened to one line; empty when it was missing
	Reason string // what is wrong and what to do, in lower case

	cause error
}

// maxShown is the length in bytes that a value is shortened to in messages.
const maxShown = 80

// Error says the refusal in one line: field, value and reason.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return e.Field + " " + e.Reason
	}
	return fmt.Sprintf("%s %q %s", e.Field, e.Value, e.Reason)
}

// Unwrap returns [ErrExpired] or [ErrUnserved], or nil for a recall that is invalid.
func (e *FieldError) Unwrap() error { return e.cause }

// IsExpired tells a closed window, which is counted as expired, from an invalid recall.
func (e *FieldError) IsExpired() bool { return e != nil && e.cause == ErrExpired }

func (e *FieldError) isUnserved() bool { return e != nil && e.cause == ErrUnserved }

func refuse(field, value, reason string) *FieldError {
	return &FieldError{Field: field, Value: providers.Line(value, maxShown), Reason: reason}
}

func refusef(field, value, format string, args ...any) *FieldError {
	return refuse(field, value, fmt.Sprintf(format, args...))
}
