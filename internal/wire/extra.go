package wire

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Extra is a file of further exchanges with agents of one version: the requests of each scene were sent in order, and
// things happened to the agents in between.
type Extra struct {
	File   string // such as extra-2.0.5.json
	Nomad  string // the version, such as 2.0.5
	Scenes []Scene
}

// Scene is a group of agents and the exchanges with them.
type Scene struct {
	Name   string
	Agents []SceneAgent `json:"agents"`
	Leader string       `json:"leader"` // name of the agent that was elected, if that mattered
	Cases  []Case       `json:"cases"`
}

// SceneAgent is an agent as it was recorded.
type SceneAgent struct {
	Name     string `json:"name"`
	Role     string `json:"role"` // server, client or both
	Region   string `json:"region"`
	Setup    string `json:"setup"` // in words
	HTTP     int    `json:"http"`
	RPC      int    `json:"rpc"`
	Serf     int    `json:"serf"`
	ServerID string `json:"server_id"`
	NodeID   string `json:"node_id"`
}

// Case is one recorded exchange of a scene.
type Case struct {
	Exchange
	N              int               `json:"n"`      // place in the scene
	Before         string            `json:"before"` // what happened since the case before it
	RequestHeaders map[string]string `json:"request_headers"`
	RequestBytes   string            `json:"request_bytes"` // the whole request, where it is no valid one
	RawResponse    string            `json:"raw_response"`
	Connection     string            `json:"connection"`
	Cut            bool              `json:"cut"` // the response was longer
	Trimmed        bool              `json:"trimmed"`
	Stable         *bool             `json:"stable"`
	Note           string            `json:"note"`
	Command        string            `json:"command"` // of the command line that made the request
}

// Varies reports whether two runs of the recorder disagreed about the response.
func (c Case) Varies() bool { return c.Stable != nil && !*c.Stable }

// Headers are the further headers of the request. Long values are recorded as "a × 1000".
func (c Case) Headers() map[string]string {
	headers := maps.Clone(c.RequestHeaders)
	for name, value := range headers {
		if text, times, ok := strings.Cut(value, " × "); ok {
			if n, err := strconv.Atoi(times); err == nil {
				headers[name] = strings.Repeat(text, n)
			}
		}
	}
	return headers
}

// Plain is the response's body without its compression, as far as it was recorded.
func (c Case) Plain() string { return string(Unpack(c.Header["Content-Encoding"], c.Content())) }

// Unpack undoes a Content-Encoding. Of a body that was cut it returns the beginning.
func Unpack(encoding string, body []byte) []byte {
	var r io.Reader
	switch encoding {
	case "gzip":
		unzipped, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil
		}
		r = unzipped
	case "deflate":
		r = flate.NewReader(bytes.NewReader(body))
	default:
		return body
	}
	plain, _ := io.ReadAll(r)
	return plain
}

//go:embed testdata/extra-*.json.gz
var extras embed.FS

// Extras returns the stored files of further exchanges, and those in the folder that Variable names, extra-*.json with or
// without .gz. A file that is equal to a stored one is left out.
func Extras() ([]Extra, error) {
	stored, err := fs.Sub(extras, "testdata")
	if err != nil {
		return nil, err
	}
	all, err := loadExtras(stored)
	folder := os.Getenv(Variable)
	if err != nil || folder == "" {
		return all, err
	}
	found, err := loadExtras(os.DirFS(folder))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", Variable, folder, err)
	}
	for _, e := range found {
		if !slices.ContainsFunc(all, func(s Extra) bool { return reflect.DeepEqual(e, s) }) {
			all = append(all, e)
		}
	}
	return all, nil
}

func loadExtras(folder fs.FS) ([]Extra, error) {
	var files []string
	for _, pattern := range []string{"extra-*.json", "extra-*.json.gz"} {
		found, err := fs.Glob(folder, pattern)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	var all []Extra
	for _, file := range files {
		content, err := fs.ReadFile(folder, file)
		if err != nil {
			return nil, err
		}
		if path.Ext(file) == ".gz" {
			content = Unpack("gzip", content)
		}
		var read struct {
			Nomad  string
			Scenes map[string]Scene
		}
		if err := json.Unmarshal(content, &read); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		e := Extra{File: strings.TrimSuffix(file, ".gz"), Nomad: read.Nomad}
		for _, name := range slices.Sorted(maps.Keys(read.Scenes)) {
			scene := read.Scenes[name]
			scene.Name = name
			e.Scenes = append(e.Scenes, scene)
		}
		all = append(all, e)
	}
	return all, nil
}
