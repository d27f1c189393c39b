package pillarbox_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/test/program"
)

const module = "pillarbox/"

// importOrder has all packages, low to high: a package may import only what stands on an
// earlier line.
func importOrder() [][]string {
	return [][]string{
		{"ese/vfs", "ese/internal/page", "ese/internal/record"},
		{"ese/internal/logrec"},
		{"ese/internal/version", "ese/internal/dbheader"},
		{"ese/internal/wal", "ese/internal/stream"},
		{"ese/internal/cache"},
		{"ese/internal/btree"},
		{"ese/internal/space"},
		{"ese/internal/redo"},
		{"ese"},
		{"ese/inspect"},
		{"ese/offline"},
		{"ese/inspect/report", "ese/esetest"},
		{"mail/address"},
		{"mail", "mail/dsn"},
		{"protocol/line", "protocol/listener"},
		{"protocol/imap", "protocol/pop3", "protocol/smtp"},
		{"directory", "store"},
		{"store/crashtest"},
		{"transport"},
		{"transport/crashtest"},
		{"archive/s3"},
		{"archive/s3/s3test"},
		{"archive", "backup"},
		{"storage"},
		{"service/imapd", "service/pop3d", "service/smtpd", "service/webd"},
		{"server"},
		{"cmd/eseutil", "cmd/pillarbox"},
		{"test/program"},
		{"test/moto"},
		{"test/backupbench", "test/cold", "test/cost", "test/interop", "test/kill", "test/mutants", "test/soak"},
	}
}

// ban forbids the packages under one path what stands under others, whatever their order.
type ban struct {
	who    string
	what   []string
	reason string
}

func bans() []ban {
	return []ban{
		{"protocol", []string{"ese", "store", "directory", "transport", "storage"}, "protocols know no storage"},
		{"store", []string{"protocol", "transport", "directory"}, "the store knows no protocol"},
		{"mail", []string{"ese", "store", "protocol"}, "package mail is pure"},
		{"cmd/eseutil", []string{"store", "directory", "server"}, "eseutil knows only the engine"},
		{"backup", []string{"store", "directory", "transport", "protocol"}, "a set knows no mail"},
		{"cmd/pillarbox", []string{"store", "ese", "transport", "storage"}, "verbs go through package server"},
	}
}

// modules are the other modules that may be imported, by the folder that may do so. Each has
// its reason in ARCHITECTURE.md.
func modules() map[string][]string {
	return map[string][]string{
		"filippo.io/age":                  {"backup"},
		"github.com/alecthomas/kong":      {"cmd/pillarbox"},
		"github.com/klauspost/compress":   {"backup"},
		"github.com/pelletier/go-toml/v2": {"server"},
		"golang.org/x/crypto":             {"directory"},
		"golang.org/x/net":                {"mail"},
		"golang.org/x/text":               {"mail", "protocol", "store"},
	}
}

type goPackage struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	var out strings.Builder
	cmd.Stdout = &out
	if said, err := program.Run(t, 2*time.Minute, cmd); err != nil {
		t.Fatalf("go list: %v\n%s", err, said)
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(out.String())); ; {
		var p goPackage
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			list = append(list, p)
		}
	}
}

func under(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func TestImportOrder(t *testing.T) {
	rank := map[string]int{}
	for i, line := range importOrder() {
		for _, p := range line {
			rank[p] = i
		}
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		own, known := rank[name]
		if !known {
			t.Errorf("%s has no place in importOrder", name)
			continue
		}
		for _, imp := range p.Imports {
			other, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if r, ok := rank[other]; !ok || r >= own {
				t.Errorf("%s may not import %s: it does not stand below it", name, other)
			}
			for _, b := range bans() {
				for _, w := range b.what {
					if under(name, b.who) && under(other, w) {
						t.Errorf("%s may not import %s: %s", name, other, b.reason)
					}
				}
			}
		}
	}
}

func TestForeignImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module) || !strings.Contains(strings.Split(imp, "/")[0], ".") {
				continue
			}
			if under(name, "ese") {
				t.Errorf("%s imports %s: the engine is standard library only", name, imp)
				continue
			}
			allowed := false
			for mod, who := range modules() {
				if under(imp, mod) {
					allowed = slices.ContainsFunc(who, func(w string) bool { return under(name, w) })
				}
			}
			if !allowed {
				t.Errorf("%s imports %s: not in modules", name, imp)
			}
		}
	}
}

// Tests run other programs by package program only: it gives each a deadline.
func TestPrograms(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"CombinedOutput", "StartProcess"}, call.Sel.Name) {
				t.Errorf("%s calls %s: use pillarbox/test/program", name, call.Sel.Name)
			}
			return true
		})
		var own, exec bool
		for _, imp := range f.Imports {
			own = own || imp.Path.Value == `"pillarbox/test/program"`
			exec = exec || imp.Path.Value == `"os/exec"`
		}
		if exec && !own && filepath.Dir(name) != filepath.Join("test", "program") {
			t.Errorf("%s imports os/exec without pillarbox/test/program", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStyle(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc", "base", "lib"},
			path.Base(name)) {
			t.Errorf("%s: a package is named for what it is", name)
		}
		docs := 0
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil,
				parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs++
				if file != "doc.go" {
					t.Errorf("%s/%s: the package comment stands in doc.go", name, file)
				}
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s/%s: no init functions", name, file)
				}
			}
		}
		if docs != 1 {
			t.Errorf("%s has %d package comments, not 1", name, docs)
		}
	}
}
