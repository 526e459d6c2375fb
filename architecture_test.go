package recallq_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/recallq/recallq/"

// rules say which packages must not import which, and why. A trailing slash means all below.
var rules = []struct {
	packages string
	tests    bool // the rule holds for tests as well
	must     []string
	except   []string
	why      string
}{
	{
		packages: "providers", tests: true,
		must: []string{module, "net/http"},
		why:  "the contract links nothing, so that a push system that imports tasks does not get the HTTP clients",
	},
	{
		packages: "providers/",
		must:     []string{module + "tasks", module + "retry", module + "internal", module + "cmd", "github.com/hibiken/asynq", "github.com/redis/"},
		why:      "a provider makes one call and states facts: queue and policy are others' business",
	},
	{
		packages: "retry/",
		must:     []string{module, "math/rand", "context", "net/", "os", "github.com/hibiken/asynq", "github.com/redis/", "github.com/rs/"},
		except:   []string{module + "providers", module + "retry", "os"},
		why:      "the policy is pure: the same question gets the same answer",
	},
	{
		packages: "tasks/",
		must:     []string{module, "net/http"},
		except:   []string{module + "providers"},
		why:      "a push system imports tasks and must not link the HTTP clients",
	},
	{
		packages: "internal/",
		must:     []string{module + "cmd"},
		why:      "imports run one way: cmd, internal, then tasks, retry and providers",
	},
	{
		packages: "providers/providertest/simulator/", tests: true,
		must:   []string{module},
		except: []string{module + "providers/providertest/simulator"},
		why:    "the simulator is written from the vendors' documents, not from our clients: a misreading must be made twice to go unnoticed",
	},
}

// asynqRooms are the only rooms that know the queue library.
var asynqRooms = []string{"tasks", "internal/worker", "internal/ops", "cmd/"}

// vendors are the providers' packages: none imports another.
var vendors = []string{"jiguang", "engagelab", "timpush", "timchat", "rongcloud"}

type source struct {
	path    string // with slashes, from the module's root
	pkg     string // its folder
	test    bool
	imports []string
	file    *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata" || p == "tools") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(p), test: strings.HasSuffix(p, "_test.go"), file: f}
		s.pkg = path.Dir(s.path)
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func in(pkg, pattern string) bool {
	if below, ok := strings.CutSuffix(pattern, "/"); ok {
		return pkg == below || strings.HasPrefix(pkg, pattern)
	}
	return pkg == pattern
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, rule := range rules {
			if !in(s.pkg, rule.packages) || s.test && !rule.tests {
				continue
			}
			for _, name := range s.imports {
				if forbidden(name, rule.must, rule.except) {
					t.Errorf("%s imports %s: %s", s.path, name, rule.why)
				}
			}
		}
	}
}

func forbidden(name string, must, except []string) bool {
	for _, e := range except {
		if name == e || strings.HasPrefix(name, e+"/") && e != module+"providers" {
			return false
		}
	}
	for _, m := range must {
		if name == m || strings.HasPrefix(name, strings.TrimSuffix(m, "/")+"/") {
			return true
		}
	}
	return false
}

func TestOnlyTheQueuesRoomsKnowAsynq(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, name := range s.imports {
			if !strings.HasPrefix(name, "github.com/hibiken/asynq") || s.test {
				continue
			}
			allowed := false
			for _, room := range asynqRooms {
				allowed = allowed || in(s.pkg, room)
			}
			if !allowed {
				t.Errorf("%s imports %s: another queue library must cost only the rooms %v", s.path, name, asynqRooms)
			}
		}
	}
}

func TestNoProviderImportsAnother(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, vendor := range vendors {
			if !in(s.pkg, "providers/"+vendor+"/") {
				continue
			}
			for _, other := range vendors {
				for _, name := range s.imports {
					if other != vendor && in(name, module+"providers/"+other+"/") {
						t.Errorf("%s imports %s: what two vendors share belongs to providers/internal", s.path, name)
					}
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		documented[s.pkg] = documented[s.pkg] || s.file.Doc.Text() != ""
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: everything is built top to bottom in one readable function", s.path)
			}
		}
	}
}

// drawn is the picture of what imports what, without the arrows that others lead to as well.
func drawn(t *testing.T) map[string]map[string]bool {
	t.Helper()
	room := func(pkg string) string {
		for _, vendor := range vendors {
			if pkg == "providers/"+vendor {
				return "providers/VENDOR"
			}
		}
		return pkg
	}
	graph := map[string]map[string]bool{}
	for _, s := range sources(t) {
		for _, name := range s.imports {
			if pkg, ours := strings.CutPrefix(name, module); ours && !s.test && !strings.HasSuffix(s.pkg, "test") {
				from := room(s.pkg)
				if graph[from] == nil {
					graph[from] = map[string]bool{}
				}
				graph[from][room(pkg)] = true
			}
		}
	}
	var leads func(from, to string) bool
	leads = func(from, to string) bool {
		for next := range graph[from] {
			if next == to || leads(next, to) {
				return true
			}
		}
		return false
	}
	reduced := map[string]map[string]bool{}
	for from, all := range graph {
		reduced[from] = map[string]bool{}
		for to := range all {
			around := false
			for next := range all {
				around = around || next != to && leads(next, to)
			}
			if !around {
				reduced[from][to] = true
			}
		}
	}
	return reduced
}

var (
	arrow = regexp.MustCompile(`(?m)^    (\w+)(?:\[([^\]]+)\])? --> (\w+)(?:\[([^\]]+)\])?$`)
	// elsewhere are rooms that the picture leaves out: tests' own.
	elsewhere = []string{"internal/e2e", "internal/redistest"}
)

func TestTheArchitectureIsDrawnAsItIs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	found := map[string]map[string]bool{}
	for _, m := range arrow.FindAllStringSubmatch(string(text), -1) {
		for i := 1; i < 4; i += 2 {
			if m[i+1] != "" {
				labels[m[i]] = m[i+1]
			}
		}
		from, to := labels[m[1]], labels[m[3]]
		if found[from] == nil {
			found[from] = map[string]bool{}
		}
		found[from][to] = true
	}
	want := drawn(t)
	for _, room := range elsewhere {
		delete(want, room)
	}
	for from, all := range want {
		for to := range all {
			if !found[from][to] {
				t.Errorf("docs/ARCHITECTURE.md lacks the arrow from %s to %s", from, to)
			}
		}
	}
	for from, all := range found {
		for to := range all {
			if !want[from][to] {
				t.Errorf("docs/ARCHITECTURE.md has an arrow from %s to %s, and there is none, or others lead there", from, to)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, _ := filepath.Glob("docs/*.md")
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}
