// Package input reads the rows of a recall from files: NDJSON, CSV or plain ids, gzipped or not.
//
// It streams. Whatever the file holds, at most one row of [MaxRow] bytes is in memory for each input, so a file of ten
// million rows needs no more than one of ten, and a file that is one endless line, or one never closed quote, is refused
// line by line instead of being read into memory.
//
// It only finds the rows and their fields. What a field may hold is said by package tasks.
package input
