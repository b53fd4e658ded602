// Package wire reads recorded exchanges with real agents and plays them back, for tests.
package wire

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Exchange is one recorded request and its response.
type Exchange struct {
	Name        string            `json:"name"`
	Agent       string            `json:"agent"`
	Method      string            `json:"method"`
	Path        string            `json:"path"` // with its query
	Token       string            `json:"token"`
	RequestBody string            `json:"request_body"`
	Seconds     float64           `json:"seconds"`
	Status      int               `json:"status"`
	Header      map[string]string `json:"header"`
	Body        string            `json:"body"`
	BodyBase64  string            `json:"body_base64"`
}

// Recording is all that was recorded of one version.
type Recording struct {
	Nomad     string     `json:"nomad"` // the version, such as 2.0.5
	Exchanges []Exchange `json:"cases"`
}

// Since reports whether the recorded version is the given one or a later one.
func (r Recording) Since(version string) bool {
	return slices.Compare(numbers(r.Nomad), numbers(version)) >= 0
}

// numbers returns the numbers of a version, without a suffix such as -beta.1 or +ent.
func numbers(version string) (all []int) {
	version, _, _ = strings.Cut(version, "-")
	version, _, _ = strings.Cut(version, "+")
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part)
		all = append(all, n)
	}
	return all
}

// Variable is the environment variable that names a folder with further recordings, nomad-*.json.
const Variable = "NOMAD_RECORDINGS"

//go:embed testdata/nomad-*.json
var testdata embed.FS

// Stored returns the recordings that are part of this package, the oldest version first.
func Stored() ([]Recording, error) {
	folder, err := fs.Sub(testdata, "testdata")
	if err != nil {
		return nil, err
	}
	return load(folder)
}

// Version returns the stored recording of one version.
func Version(version string) (Recording, error) {
	all, err := Stored()
	if err != nil {
		return Recording{}, err
	}
	i := slices.IndexFunc(all, func(r Recording) bool { return r.Nomad == version })
	if i < 0 {
		return Recording{}, fmt.Errorf("no recording of Nomad %s", version)
	}
	return all[i], nil
}

// All returns the stored recordings and the further ones in the folder that Variable names, the oldest version first.
// A recording that is equal to a stored one is left out.
func All() ([]Recording, error) {
	all, err := Stored()
	folder := os.Getenv(Variable)
	if err != nil || folder == "" {
		return all, err
	}
	found, err := load(os.DirFS(folder))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", Variable, folder, err)
	}
	further := slices.DeleteFunc(found, func(r Recording) bool {
		return slices.ContainsFunc(all, func(s Recording) bool { return reflect.DeepEqual(r, s) })
	})
	return sorted(append(further, all...)), nil
}

// load reads the recordings of a folder.
func load(folder fs.FS) ([]Recording, error) {
	files, err := fs.Glob(folder, "nomad-*.json")
	if err != nil {
		return nil, err
	}
	if further, _ := fs.Glob(folder, "extra-*.json*"); len(files)+len(further) == 0 {
		return nil, errors.New("there is no nomad-*.json and no extra-*.json")
	}
	var all []Recording
	for _, file := range files {
		content, err := fs.ReadFile(folder, file)
		if err != nil {
			return nil, err
		}
		var r Recording
		if err := json.Unmarshal(content, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return sorted(all), nil
}

// sorted puts the oldest version first.
func sorted(all []Recording) []Recording {
	slices.SortStableFunc(all, func(a, b Recording) int { return slices.Compare(numbers(a.Nomad), numbers(b.Nomad)) })
	return all
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

// Content is the response's body as it went over the wire.
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

// Text is the response's body without its compression.
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

// ServeHTTP writes the recorded response.
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
