package config

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expected errors in testdata/faults anew")

// environment is what the tests' files may name.
func environment(name string) (string, bool) {
	value, ok := map[string]string{"SECRET": "topsecret", "EMPTY": "", "LONG": "topsecret\"" + strings.Repeat("topsecret ", 50), "KEY": "key-from-env"}[name]
	return value, ok
}

// TestFaults holds, for each file in testdata/faults, which is named by what is wrong with it, the errors that a person sees.
func TestFaults(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			c, err := Load(file, environment)
			if err == nil {
				t.Fatalf("loads without an error: %v", c)
			}
			var configError *Error
			if !errors.As(err, &configError) || len(configError.Faults) == 0 {
				t.Errorf("is no *Error with faults: %T", err)
			}
			got := filepath.ToSlash(strings.ReplaceAll(err.Error(), file, filepath.Base(file))) + "\n"
			if strings.Contains(got, "topsecret") {
				t.Errorf("shows a secret: %s", got)
			}
			wantFile := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "recallq.yaml"), environment)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("%v", err)
	}
	if _, err := LoadRedis(filepath.Join(t.TempDir(), "recallq.yaml"), "", environment); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestLargeFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "recallq.yaml")
	if err := os.WriteFile(file, []byte(strings.Repeat("# much\n", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file, environment); err == nil || !strings.Contains(err.Error(), "larger than 1024 KiB") {
		t.Errorf("%v", err)
	}
}
