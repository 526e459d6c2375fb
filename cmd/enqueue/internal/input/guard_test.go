package input

import (
	"strings"
	"testing"
)

func FuzzGuardedCellsComeBack(f *testing.F) {
	for _, cell := range []string{"", "plain", "=1+1", "+86", "-5", "@x", "'", "''", "'=1", "''@", "a'=b", "it's"} {
		f.Add(cell)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		guarded := GuardCell(cell)
		if guarded != "" && strings.ContainsRune("=+-@", rune(guarded[0])) {
			t.Errorf("%q stays a formula: %q", cell, guarded)
		}
		if back := unguard(guarded); back != cell {
			t.Errorf("%q is written as %q and read as %q", cell, guarded, back)
		}
	})
}

func TestOnlyGuardsAreTakenAway(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]string{"'": "'", "'quoted'": "'quoted'", "=1": "=1", "'=1": "=1", "''=1": "'=1", "'-5": "-5"} {
		if got := unguard(cell); got != want {
			t.Errorf("unguard(%q) = %q, want %q", cell, got, want)
		}
	}
}
