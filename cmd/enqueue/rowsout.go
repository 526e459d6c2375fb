package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"

	"github.com/recallq/recallq/cmd/enqueue/internal/input"
	"github.com/recallq/recallq/tasks"
)

// writeNDJSON returns a function that writes failures as lines of JSON.
func writeNDJSON(out *bufio.Writer) func(tasks.Failure) error {
	return func(f tasks.Failure) error {
		line, err := f.MarshalJSON()
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		return err
	}
}

// writeCSV writes the header and returns a function that writes failures below it.
func writeCSV(out *bufio.Writer) func(tasks.Failure) error {
	columns := append(tasks.Fields(), "id", "outcome", "code", "error", "attempts", "batch", "seq", "recall_by", "finished_at")
	w := csv.NewWriter(out)
	err := w.Write(columns)
	record := make([]string, len(columns))
	return func(f tasks.Failure) error {
		if err != nil {
			return err
		}
		cells, e := cellsOf(f)
		if e != nil {
			return e
		}
		for i, column := range columns {
			record[i] = input.GuardCell(cells[column])
		}
		if e := w.Write(record); e != nil {
			return e
		}
		w.Flush()
		return w.Error()
	}
}

// cellsOf are a failure's fields as text, under the names that they have in NDJSON.
func cellsOf(f tasks.Failure) (map[string]string, error) {
	line, err := f.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(line, &values); err != nil {
		return nil, err
	}
	cells := make(map[string]string, len(values))
	for name, value := range values {
		text := string(value)
		if text[0] == '"' {
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, err
			}
		}
		cells[name] = text
	}
	return cells, nil
}
