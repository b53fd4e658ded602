package snippets_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/snippets"
)

func TestCheck(t *testing.T) {
	c, err := snippets.NewChecker(".", "n int", "fmt", "time")
	require.NoError(t, err)
	for _, row := range []struct{ name, code, err string }{
		{"statements", "m := n\nif n > 1 {\n\treturn fmt.Errorf(\"%d\", n)\n}", ""},
		{"an expression", "n == 1", ""},
		{"declarations", "func double(n int) int { return 2 * n }\n", ""},
		{"a program", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println() }\n", ""},

		{"an unknown name", "\nfmt.Print1()", "a.md:8: undefined: fmt.Print1"},
		{"a wrong type", "n = \"1\"", `a.md:7: cannot use "1" (untyped string constant) as int value in assignment`},
		{"bad syntax", "if n", "a.md:8: expected operand"},
		{"an unused variable of a declaration", "func f() { n := 1 }", "a.md:7: declared and not used: n"},
		{"an unused import of a program", "package main\n\nimport \"fmt\"\n\nfunc main() {}\n", `a.md:9: "fmt" imported and not used`},
		{"a package that was not given", "package main\n\nimport \"go/ast\"\n\nvar _ ast.Node\n\nfunc main() {}\n", "not among those that snippets can import"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := c.Check(snippets.Snippet{File: "a.md", Line: 7, Code: row.code})
			if row.err == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, row.err)
			}
		})
	}
}

func TestInMarkdown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.md")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }

	write("```go\na()\n\nb()\n```\n```sh\nls\n```\n" +
		"| With x | then | With y |\n|---|---|---|\n| `a()`, `b()` | `not` | none |\n\n| other |\n|---|\n| `not` |\n")
	found, err := snippets.InMarkdown(file)
	require.NoError(t, err)
	assert.Equal(t, []snippets.Snippet{{file, 2, "a()\n\nb()\n"}, {file, 11, "a()\nb()"}}, found)

	write("```go\na()\n")
	_, err = snippets.InMarkdown(file)
	assert.ErrorContains(t, err, "a.md:2: the block has no end")
}

func TestInPackageComment(t *testing.T) {
	dir := t.TempDir()
	text := "// Package a does:\n//\n//\tdo()\n//\n// Run it:\n//\n//\tgo run ./a\n//\n// No more.\npackage a\n\n// b is this:\n//\n//\tc()\nfunc b() {}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.go"), []byte(text), 0o600))
	found, err := snippets.InPackageComment(dir)
	require.NoError(t, err)
	assert.Equal(t, []snippets.Snippet{{filepath.Join(dir, "a.go"), 0, "do()\n"}}, found)
}
