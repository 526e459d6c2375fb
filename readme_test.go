package recallq_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/providertest/simulator"
	"github.com/recallq/recallq/retry"
	"github.com/recallq/recallq/tasks"
)

// table returns the cells of the README's table whose first column has the given heading.
func table(t *testing.T, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n| "+heading+" |")
	if !found {
		t.Fatalf("README.md has no table that begins with the column %q", heading)
	}
	var rows [][]string
	for _, line := range strings.Split(rest, "\n")[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}

func TestTheReadmesProvidersAreTheCodes(t *testing.T) {
	t.Parallel()
	rows := table(t, "provider")
	specs := providers.Specs()
	if len(rows) != len(specs) {
		t.Fatalf("the table has %d providers, the code %d", len(rows), len(specs))
	}
	for i, spec := range specs {
		want := []string{
			"`" + spec.Name + "`",
			spec.Title + ", " + spec.IDName + " `" + spec.IDExample + "`",
			window(spec),
			limits(spec),
		}
		if len(rows[i]) != len(want)+1 {
			t.Errorf("the row of %s has %d cells, want %d", spec.Name, len(rows[i]), len(want)+1)
			continue
		}
		for j, cell := range want {
			if rows[i][j] != cell {
				t.Errorf("the row of %s says %q, the code %q", spec.Name, rows[i][j], cell)
			}
		}
		if rows[i][len(want)] == "" {
			t.Errorf("the row of %s does not say what recalled means there", spec.Name)
		}
	}
}

func window(spec providers.Spec) string {
	text := strings.TrimSuffix(spec.Window.String(), "h0m0s") + " h, "
	if spec.WindowDocumented {
		return text + "the vendor's"
	}
	return text + "ours: the vendor documents none"
}

func limits(spec providers.Spec) string {
	if len(spec.Limits) == 0 {
		return "no limit"
	}
	var words []string
	for _, limit := range spec.Limits {
		words = append(words, limit.String())
	}
	return strings.Join(words, ", ")
}

func TestTheReadmesOutcomesAreTheCodes(t *testing.T) {
	t.Parallel()
	rows := table(t, "outcome")
	want := []string{retry.Recalled, retry.AlreadyRecalled, retry.Expired, retry.NotFound, retry.Rejected, tasks.Cancelled}
	if len(rows) != len(want) {
		t.Fatalf("the table has %d outcomes, the code %d", len(rows), len(want))
	}
	for i, outcome := range want {
		success := "no"
		if tasks.Succeeded(outcome) {
			success = "yes"
		}
		if row := rows[i]; len(row) != 3 || row[0] != "`"+outcome+"`" || row[2] != success {
			t.Errorf("the row %q should be for %s, success %s", row, outcome, success)
		}
	}
}

// What the README shows of the demo must still be what it prints: every sample in it has a line for each provider.
func TestTheReadmeShowsTheDemoOfEachProvider(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range providers.Names() {
		if !strings.Contains(string(text), "\n"+name+strings.Repeat(" ", len(providers.EngageLab)-len(name))+"  ok  ") {
			t.Errorf("README.md shows no recall of %s in the demo's output", name)
		}
	}
}

func TestTheDemoProfileHasTheSimulatorsAccounts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("recallq.demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password := filepath.Join(dir, "ui-password")
	file := filepath.Join(dir, "recallq.yaml")
	text = bytes.Replace(text, []byte("/run/secrets/ui-password"), []byte(password), 1)
	if err := errors.Join(os.WriteFile(password, []byte("secret"), 0o600), os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Apps) != len(providers.Names()) {
		t.Errorf("%d apps, want one of each of the %d providers", len(cfg.Apps), len(providers.Names()))
	}
	for _, app := range cfg.Apps {
		known := slices.ContainsFunc(simulator.SampleAccounts(), func(a simulator.Account) bool {
			return a.Account == app.Settings.Account() && slices.Contains(app.Settings.Secrets(), a.Secret)
		})
		if !known {
			t.Errorf("%s has an account or a secret that the simulator does not know", app.Lane())
		}
		if !app.Simulated {
			t.Errorf("%s would call the vendor", app.Lane())
		}
	}
}
