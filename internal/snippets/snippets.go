// Package snippets finds the Go code in documents and type-checks it, for tests.
package snippets

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc/comment"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Snippet is a piece of Go code: a program, declarations, or statements.
type Snippet struct {
	File string
	Line int // of its first line; 0 if that is not known
	Code string
}

// String returns where the snippet is.
func (s Snippet) String() string {
	if s.Line == 0 {
		return "the comment in " + s.File
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

// IsProgram reports whether the snippet is a whole file.
func (s Snippet) IsProgram() bool { return strings.HasPrefix(s.Code, "package ") }

// InMarkdown returns the blocks of Go code in a file and, of tables whose columns have headings that begin with "With ", the
// code in these columns.
func InMarkdown(file string) ([]Snippet, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found []Snippet
	var block *Snippet
	columns := map[int]bool{} // of code, in the table that is being read
	for i, line := range strings.Split(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n") {
		switch fence := strings.TrimSpace(line); {
		case block != nil && fence == "```":
			found = append(found, *block)
			block = nil
		case block != nil:
			block.Code += line + "\n"
		case fence == "```go":
			block = &Snippet{File: file, Line: i + 2}
		case !strings.HasPrefix(line, "|"):
			clear(columns)
		default:
			for j, cell := range strings.Split(line, "|") {
				columns[j] = columns[j] || strings.HasPrefix(strings.TrimSpace(cell), "With ")
				if code := spans(cell); columns[j] && code != "" {
					found = append(found, Snippet{file, i + 1, code})
				}
			}
		}
	}
	if block != nil {
		return nil, fmt.Errorf("%v: the block has no end", block)
	}
	return found, nil
}

// spans returns the code in a cell of a table, one span a line.
func spans(cell string) string {
	var code []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			code = append(code, part)
		}
	}
	return strings.Join(code, "\n")
}

// InPackageComment returns the Go code in the comment of the package in a folder. Code that begins with go run is a command.
func InPackageComment(dir string) ([]Snippet, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var found []Snippet
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, part := range new(comment.Parser).Parse(parsed.Doc.Text()).Content {
			if code, ok := part.(*comment.Code); ok && !strings.HasPrefix(code.Text, "go run ") {
				found = append(found, Snippet{File: file, Code: code.Text})
			}
		}
	}
	return found, nil
}

// Checker type-checks snippets. They can use the packages that were given to NewChecker without importing them.
type Checker struct {
	packages []string
	vars     string
	importer types.Importer
	fset     *token.FileSet
}

// NewChecker makes a Checker from import paths, as the module in a folder resolves them, and the variables that statements
// can use, as in a list of parameters.
func NewChecker(dir, vars string, packages ...string) (*Checker, error) {
	args := append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, packages...)
	list := exec.Command("go", args...)
	list.Dir = dir
	output, err := list.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return nil, err
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(output)) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[name] = file
	}
	c := &Checker{packages: packages, vars: vars, fset: token.NewFileSet()}
	c.importer = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("package %s is not among those that snippets can import", path)
		}
		return os.Open(exports[path])
	})
	return c, nil
}

// Check returns the errors of a snippet. In statements, variables may be unused.
func (c *Checker) Check(s Snippet) error {
	file, err := c.parse(s)
	if err != nil {
		return err
	}
	var errs []error
	config := types.Config{Importer: c.importer, Error: func(err error) {
		var failed types.Error
		if errors.As(err, &failed) && failed.Soft && !s.IsProgram() {
			if file.Name.Name == "statements" || strings.Contains(failed.Msg, "imported") {
				return
			}
		}
		errs = append(errs, err)
	}}
	config.Check("snippet", c.fset, []*ast.File{file}, nil)
	return errors.Join(errs...)
}

func (c *Checker) parse(s Snippet) (*ast.File, error) {
	parse := func(text string) (*ast.File, error) {
		return parser.ParseFile(c.fset, "snippet.go", text, parser.SkipObjectResolution)
	}
	line := fmt.Sprintf("\n//line %s:%d\n", strings.TrimSuffix(s.String(), fmt.Sprint(":", s.Line)), max(s.Line, 1))
	if s.IsProgram() {
		return parse(line + s.Code)
	}
	var imports strings.Builder
	for _, p := range c.packages {
		fmt.Fprintf(&imports, "import %q;", p)
	}
	if file, err := parse("package declarations;" + imports.String() + line + s.Code); err == nil {
		return file, nil
	}
	code := s.Code
	if expr, err := parser.ParseExpr(code); err == nil {
		if _, ok := expr.(*ast.CallExpr); !ok {
			code = "_ = " + code
		}
	}
	return parse("package statements;" + imports.String() + "func _(" + c.vars + ") error {{" + line + code + "\n}\nreturn nil}")
}

// Scope returns the exported names of a package.
func (c *Checker) Scope(path string) (*types.Scope, error) {
	p, err := c.importer.Import(path)
	if err != nil {
		return nil, err
	}
	return p.Scope(), nil
}

// Constants returns the constants of the package in a folder, also those that are not exported.
func (c *Checker) Constants(dir string) (map[string]*types.Const, error) {
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(c.fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	config := types.Config{Importer: c.importer, IgnoreFuncBodies: true, Error: func(error) {}} // unused imports
	p, _ := config.Check(path.Base(dir), c.fset, files, nil)
	constants := map[string]*types.Const{}
	for _, name := range p.Scope().Names() {
		if c, ok := p.Scope().Lookup(name).(*types.Const); ok {
			constants[name] = c
		}
	}
	return constants, nil
}

// UsesOfficialClient reports whether a snippet uses package api of Nomad's official client, or a variable of its types.
func UsesOfficialClient(s Snippet) bool { return officialClient.MatchString(s.Code) }

var officialClient = regexp.MustCompile(`\b(api|official)\.|hashicorp/nomad/api`)
