package nomad

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/internal/body"
	"github.com/nomad-go/nomad/internal/redact"
)

// Response has the status and the headers of a response to [Client.Do].
type Response struct {
	StatusCode int
	Header     http.Header
}

// Index returns the index of the response, from the header X-Nomad-Index, or 0 if it has none. A request with this
// index in its query is a blocking query, unless it is 0: the agent responds when the data has a higher index.
func (r *Response) Index() uint64 {
	if index, err := strconv.ParseUint(r.Header.Get("X-Nomad-Index"), 10, 64); err == nil {
		return index
	}
	return 0
}

// response is a response whose body was read, or that of a stream.
type response struct {
	status  int
	header  http.Header
	body    *bytes.Buffer // from body.NewBuffer
	stream  io.ReadCloser // in place of body
	partial bool          // the body was cut; only where the status reports a failure

	health        *bool // whether the body is the document of an agent's health; nil if that is not known yet
	documentError error // the failure that the status of a document reports
}

// release returns the buffer of the body.
func (res *response) release() {
	if res != nil {
		body.Release(res.body)
	}
}

// maxErrorBody is how many bytes are read of a response that reports a failure.
const maxErrorBody = 64 << 10

// limit is how many bytes a response may have.
func (c *Client) limit(r *request) int64 {
	if limit := c.settings.MaxResponseSize; limit > 0 {
		return limit
	}
	if r.limit > 0 {
		return r.limit
	}
	return smallResponse
}

// readResponse reads a response, within its limit, and decompresses it. The body of a stream is left to be read.
func (c *Client) readResponse(ctx context.Context, r *request, from *http.Response) (*response, error) {
	res := &response{status: from.StatusCode, header: from.Header}
	if r.stream && res.status == http.StatusOK {
		res.stream = from.Body
		return res, nil
	}
	defer from.Body.Close()
	res.body = body.NewBuffer()
	failed := res.status >= 400
	limit := c.limit(r)
	if failed && res.status != r.document {
		limit = min(limit, maxErrorBody)
	}
	var err error
	if r.method != http.MethodHead {
		err = body.Read(res.body, from, limit, failed)
	}
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case failed:
		res.partial = true // the status says more than what is wrong with the body
		return res, nil
	default:
		err = bodyError(err)
	}
	res.release()
	return nil, err
}

// bodyError gives an error of a body its meaning.
func bodyError(err error) error {
	if errors.As(err, new(*body.TooLargeError)) {
		return fmt.Errorf("%w: %w, WithMaxResponseSize raises it", ErrResponseTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
}

// decodeOptions are for what agents send. Logs and host data hold whatever bytes a machine has, so invalid UTF-8 is
// replaced.
var decodeOptions = jsonv2.JoinOptions(jsontext.AllowInvalidUTF8(true))

// checker is a result that can report that a response was JSON, but not the document of the endpoint.
type checker interface{ check() error }

// decodeResponse decodes the body and checks the result.
func (c *Client) decodeResponse(ctx context.Context, r *request, res *response, out any) error {
	decode := r.decode
	if decode == nil {
		decode = decodeJSON
	}
	err := decode(ctx, res.body.Bytes(), out)
	if result, ok := out.(checker); err == nil && ok {
		err = result.check()
	}
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return c.invalidResponse(r, res, err)
}

// maxObjects is how many objects a document of an endpoint has at most, where it does not grow with the cluster. It
// bounds the memory that a decoded response takes.
const maxObjects = 1 << 14

// decodeJSON decodes exactly one JSON value that is not null.
func decodeJSON(_ context.Context, content []byte, out any) error {
	if err := checkDocument(content); err != nil {
		return err
	}
	return jsonv2.Unmarshal(content, out, decodeOptions)
}

// checkDocument refuses what is no document of an endpoint, before it is decoded.
func checkDocument(content []byte) error {
	if err := body.CheckValue(content); err != nil {
		return err
	}
	if n := bytes.Count(content, []byte("{")) + bytes.Count(content, []byte("null")); n > maxObjects {
		return fmt.Errorf("it has %d objects", n)
	}
	return nil
}

// What a document that can grow with the cluster has at most of values and objects, in proportion to its size. So the
// memory for a decoded response is in proportion too. A small document has them free.
const (
	freeValues        = 1 << 14
	anyBytesPerValue  = 3 // lists of numbers are dense, such as those of a node's cores
	anyBytesPerObject = 32
)

// checkDensity refuses a document with more values or objects than fit its size. Values are counted by the commas and lists.
func checkDensity(content []byte, bytesPerValue, bytesPerObject int) error {
	maxValues, maxObjects := freeValues+len(content)/bytesPerValue, freeValues+len(content)/bytesPerObject
	values, objects := bytes.Count(content, []byte(","))+bytes.Count(content, []byte("[")), bytes.Count(content, []byte("{"))
	if values <= maxValues && objects <= maxObjects {
		return nil
	}
	values, objects = 0, 0 // without what is in strings
	inString := false
	for i := 0; i < len(content); i++ {
		switch c := content[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++
		case inString:
		case c == ',', c == '[':
			values++
		case c == '{':
			objects++
		}
	}
	if values <= maxValues && objects <= maxObjects {
		return nil
	}
	return fmt.Errorf("it has %d values and %d objects in %d bytes", values, objects, len(content))
}

// decodeAny decodes the response to Do.
func decodeAny(ctx context.Context, content []byte, out any) error {
	switch out := out.(type) {
	case nil:
		return body.CheckNoPage(content)
	case *[]byte:
		*out = bytes.Clone(content)
		return nil
	}
	if err := body.CheckValue(content); err != nil {
		return err
	}
	if err := checkDensity(content, anyBytesPerValue, anyBytesPerObject); err != nil {
		return err
	}
	target := reflect.ValueOf(out).Elem()
	decoded := reflect.New(target.Type())
	if err := json.Unmarshal(content, decoded.Interface()); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // out is not changed then
		return err
	}
	target.Set(decoded.Elem())
	return nil
}

// decodeEmpty accepts an empty body. Anything else is not from the agent.
func decodeEmpty(_ context.Context, content []byte, _ any) error { return body.CheckEmpty(content) }

// invalidResponse reports a response that the endpoint does not give.
func (c *Client) invalidResponse(r *request, res *response, err error) error {
	what := fmt.Sprintf("status %d", res.status)
	if contentType := res.header.Get("Content-Type"); contentType != "application/json" {
		what += fmt.Sprintf(", content type %q", redact.Cut(c.clean(r, contentType), 100))
	}
	return c.requestError(r, fmt.Errorf("%w: %s: %s", ErrInvalidResponse, what, redact.Cut(c.clean(r, body.Explain(err)), maxMessage)))
}
