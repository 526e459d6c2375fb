package inbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// The fields of an entry.
const (
	fieldRow      = "row"
	fieldBatch    = "batch"
	fieldPriority = "priority"
)

const maxShown = 80 // of a value in a message, in bytes

// entry is one entry of the stream.
type entry struct {
	id     string
	fields []string // name, value, name, value; empty if somebody has deleted it
}

// addedAt is when the entry was added, by Redis's clock.
func (e entry) addedAt() time.Time {
	text, _, _ := strings.Cut(e.id, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// order is what an entry asks for.
type order struct {
	row      tasks.Row // as far as it could be read
	recall   tasks.Recall
	batch    string
	priority tasks.Priority
}

// read reads an entry and checks all that can be checked without knowing the lanes. Of one that is refused the order holds
// what could be read.
func (e entry) read(now time.Time) (order, *tasks.FieldError) {
	o := order{priority: tasks.Bulk}
	row, refused := o.takeApart(e)
	if row != "" {
		var err error
		if o.row, err = tasks.DecodeRow([]byte(row)); err != nil && refused == nil {
			refused = asRefusal(err)
		}
	}
	if refused != nil {
		return o, refused
	}
	o.recall, _, refused = o.row.Recall(tasks.RowOptions{Now: now})
	return o, refused
}

// takeApart takes the fields of an entry. It goes on after a fault, so that a refusal can say whose it is.
func (o *order) takeApart(e entry) (row string, refused *tasks.FieldError) {
	fault := func(field, value, reason string) {
		if refused == nil {
			refused = refuse(field, value, reason)
		}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(e.fields); i += 2 {
		name, value := e.fields[i], e.fields[i+1]
		if seen[name] {
			fault(name, value, "is given twice; one entry is one recall")
			continue
		}
		seen[name] = true
		switch name {
		case fieldRow:
			row = value
		case fieldBatch:
			o.batch = value
			if value == "" {
				continue
			}
			if err := tasks.CheckBatch(value); err != nil {
				fault(name, value, err.Error())
			}
		case fieldPriority:
			switch p := tasks.Priority(value); p {
			case "":
			case tasks.Urgent, tasks.Bulk:
				o.priority = p
			default:
				fault(name, value, fmt.Sprintf("is no priority; use %s or %s", tasks.Urgent, tasks.Bulk))
			}
		default:
			fault(name, value, "is no field of an entry; give row, batch and priority")
		}
	}
	if row == "" {
		fault(fieldRow, "", "is missing; give a row of input as JSON")
	}
	return row, refused
}

func refuse(field, value, reason string) *tasks.FieldError {
	if field = providers.Line(field, maxShown); field == "" {
		field = "field"
	}
	return &tasks.FieldError{Field: field, Value: providers.Line(value, maxShown), Reason: reason}
}
