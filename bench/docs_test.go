package bench

import (
	"path/filepath"
	"testing"

	"github.com/nomad-go/nomad/internal/snippets"
)

// TestSnippetsCompile type-checks the code in the documents that uses the official client, which only this
// module requires. A test in the folder docs checks all other code.
func TestSnippetsCompile(t *testing.T) {
	c, err := snippets.NewChecker(".", "ctx context.Context, client *nomad.Client, official *api.Client", "context", "net/http",
		"github.com/nomad-go/nomad", "github.com/hashicorp/nomad/api")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	checked := 0
	for _, file := range files {
		found, err := snippets.InMarkdown(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found {
			if !snippets.UsesOfficialClient(s) {
				continue
			}
			checked++
			if err := c.Check(s); err != nil {
				t.Errorf("%v: %v", s, err)
			}
		}
	}
	if checked < 38 {
		t.Errorf("only %d snippets use the official client", checked)
	}
}
