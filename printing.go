package nomad

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/nomad-go/nomad/internal/show"
)

// String returns the method and the path of the request. All else may hold secrets.
func (req Request) String() string {
	return show.Line(cmp.Or(strings.ToUpper(req.Method), http.MethodGet) + " " + req.Path)
}

// Format prints what String returns, whatever the verb.
func (req Request) Format(f fmt.State, _ rune) { io.WriteString(f, req.String()) }

// MarshalJSON encodes what String returns, as {"method":"GET","path":"/v1/jobs"}.
func (req Request) MarshalJSON() ([]byte, error) {
	method, path, _ := strings.Cut(req.String(), " ")
	return show.JSON(struct {
		Method string `json:"method"`
		Path   string `json:"path"`
	}{method, path})
}

// String returns the status of the response, such as "200 OK". Its headers may hold secrets, such as a proxy's cookies.
func (r Response) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode)))
}

// Format prints what String returns, whatever the verb.
func (r Response) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// MarshalJSON encodes the status and the index, if there is one, as {"status_code":200,"index":7}.
func (r Response) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		StatusCode int    `json:"status_code"`
		Index      uint64 `json:"index,omitzero"`
	}{r.StatusCode, r.Index()})
}

// LogValue logs what Error returns.
func (e APIError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// MarshalJSON encodes the error with its fields and its meanings: the texts of the errors that Is matches, without
// "nomad: ".
//
//	{"method":"GET","address":"http://127.0.0.1:4646","path":"/v1/agent/self","status_code":403,
//	 "message":"Permission denied","meanings":["permission denied"]}
func (e APIError) MarshalJSON() ([]byte, error) {
	var meanings []string
	for _, kind := range e.kinds {
		meanings = append(meanings, strings.TrimPrefix(kind.Error(), "nomad: "))
	}
	return show.JSON(struct {
		Method     string   `json:"method"`
		Address    string   `json:"address"`
		Path       string   `json:"path"`
		StatusCode int      `json:"status_code"`
		Message    string   `json:"message,omitempty"`
		Meanings   []string `json:"meanings"`
	}{e.Method, e.Address, e.Path, e.StatusCode, e.Message, meanings})
}

// String returns the name of the type and does not read the log: use Read, Lines or Entries.
func (l *LogStream) String() string { return "nomad.LogStream" }
