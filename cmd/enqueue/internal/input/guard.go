package input

import "strings"

// guard is put in front of a cell that a spreadsheet would take for a formula.
const guard = "'"

// GuardCell writes a cell so that a spreadsheet shows it and does not run it: with an apostrophe in front, if it begins with
// one of = + - @, after any number of apostrophes. What [Reader] reads is the cell again, so that nothing is lost on the way
// there and back.
func GuardCell(cell string) string {
	if guarded(cell) {
		return guard + cell
	}
	return cell
}

// unguard takes away what [GuardCell], or another program that keeps formulas from running, has put in front of a cell.
func unguard(cell string) string {
	if strings.HasPrefix(cell, guard) && guarded(cell) {
		return cell[len(guard):]
	}
	return cell
}

func guarded(cell string) bool {
	cell = strings.TrimLeft(cell, guard)
	return cell != "" && strings.IndexByte("=+-@", cell[0]) >= 0
}
