package ledger

import (
	"slices"
	"strings"

	"github.com/recallq/recallq/tasks"
)

// Lanes are the names of the lanes that the batch's recalls were enqueued for, in alphabetical order.
func (b Batch) Lanes() []string {
	var names []string
	for field := range b.Fields {
		if name, ok := strings.CutPrefix(field, tasks.LaneField); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
