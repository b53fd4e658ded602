// Package wire reads recorded exchanges with real agents and plays them back, for tests.
package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Exchange is one recorded request and its answer.
type Exchange struct {
	Name        string  `json:"name"`
	Agent       string  `json:"agent"`
	Method      string  `json:"method"`
	Path        string  `json:"path"` // with its query
	Token       string  `json:"token"`
	RequestBody string  `json:"request_body"`
	Seconds     float64 `json:"seconds"`
	Status      int     `json:"status"`
	Header      map[string]string
	Body        string `json:"body"`
	BodyBase64  string `json:"body_base64"`
}

// Recording is all that was recorded of one version.
type Recording struct {
	Nomad     string     `json:"nomad"`
	Exchanges []Exchange `json:"cases"`
}

// Load reads the recordings of a folder.
func Load(folder string) ([]Recording, error) {
	files, err := filepath.Glob(filepath.Join(folder, "nomad-*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no recordings in %s", folder)
	}
	var all []Recording
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r Recording
		if err := json.Unmarshal(content, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// URL is the request's path and query.
func (x Exchange) URL() *url.URL {
	u, err := url.Parse(x.Path)
	if err != nil {
		panic(err)
	}
	return u
}

// Endpoint is the path below /v1/agent/, without the query.
func (x Exchange) Endpoint() string { return strings.TrimPrefix(x.URL().Path, "/v1/agent/") }

// Content is the answer's body as it went over the wire.
func (x Exchange) Content() []byte {
	if x.BodyBase64 == "" {
		return []byte(x.Body)
	}
	content, err := base64.StdEncoding.DecodeString(x.BodyBase64)
	if err != nil {
		panic(err)
	}
	return content
}

// Text is the answer's body without its compression.
func (x Exchange) Text() string {
	if x.Header["Content-Encoding"] != "gzip" {
		return string(x.Content())
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(x.Content()))
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ServeHTTP gives the recorded answer.
func (x Exchange) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	// An agent that sends no content type leaves it out; the http package would guess one.
	w.Header()["Content-Type"] = nil
	for name, value := range x.Header {
		if name != "Content-Length" && name != "Transfer-Encoding" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(x.Status)
	w.Write(x.Content())
}
