package nomad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeOptions are for what agents write. Logs and host data hold whatever bytes a machine has, so invalid UTF-8 is
// replaced, not refused.
var decodeOptions = json.JoinOptions(jsontext.AllowInvalidUTF8(true))

// lenient is a result that is read leniently: a struct that embeds object.
type lenient interface{ own() *object }

// checker is a result that can tell when an answer was JSON, but not the JSON that was asked for.
type checker interface{ check() error }

// read sends a request and decodes the answer into a T.
func read[T any](ctx context.Context, c *Client, r *request) (*T, error) {
	out := new(T)
	err := c.do(ctx, r, func(ctx context.Context, a *answer) error {
		if err := decode(ctx, a.body.Bytes(), out); err != nil {
			return c.invalidResponse(r, a, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// done sends a request whose answer has no content.
func done(ctx context.Context, c *Client, r *request) error {
	return c.do(ctx, r, func(_ context.Context, a *answer) error {
		// Anything else is not the agent's: something that stands before it has answered.
		switch string(bytes.TrimSpace(a.body.Bytes())) {
		case "", "null", "{}":
			return nil
		}
		return c.invalidResponse(r, a, errors.New("want an empty answer"))
	})
}

// decode reads exactly one JSON value.
func decode(ctx context.Context, body []byte, out any) error {
	if err := isJSONValue(body); err != nil {
		return err
	}
	if err := checkDensity(body); err != nil {
		return err
	}
	source := io.Reader(bytes.NewBuffer(body))
	if len(body) > maxPooledBuffer {
		source = &contextReader{ctx, source} // this takes long enough for the time to end
	}
	var err error
	if _, ok := out.(lenient); ok {
		err = readLenient(jsontext.NewDecoder(source, decodeOptions), out)
	} else {
		err = json.UnmarshalRead(source, out, decodeOptions)
	}
	if _, ok := out.(*Keyring); ok && err != nil && ctx.Err() == nil {
		return errors.New("it is not the JSON of a keyring") // what the decoder says has keys in it
	}
	if err != nil {
		return err
	}
	if result, ok := out.(checker); ok {
		return result.check()
	}
	return nil
}

// What is decoded may take several times the memory of its text, not a hundred times: an answer may have so many objects
// and values, and one more for so many bytes. Members, the only answer that can be large, has an object in more than
// and a value in 8; the others do not come near the free ones.
const (
	freeObjects    = 1 << 14
	freeValues     = 1 << 16
	bytesPerObject = 64
	bytesPerValue  = 6
)

// checkDensity refuses a text that is all structure, before any of it is decoded.
func checkDensity(body []byte) error {
	if len(body) < freeObjects {
		return nil
	}
	count := func(text string) int { return bytes.Count(body, []byte(text)) }
	objects := count("{") + count("null") // which may stand for one
	values := objects + count("[") + count(",") + count(":")
	if objects > freeObjects+len(body)/bytesPerObject || values > freeValues+len(body)/bytesPerValue {
		return fmt.Errorf("it is all structure: about %d objects and %d values in %d bytes", objects, values, len(body))
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p[:min(len(p), 64<<10)])
}

// isJSON reports whether the head of an answer says that it is JSON.
func isJSON(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "application/json"
}

// isJSONValue refuses what a decoder would take for a zero value.
func isJSONValue(body []byte) error {
	switch trimmed := bytes.TrimSpace(body); {
	case len(trimmed) == 0:
		return errors.New("it is empty")
	case string(trimmed) == "null":
		return errors.New("it is null")
	}
	return nil
}

// invalidResponse reports an answer that is not what the endpoint answers. A context error stays one.
func (c *Client) invalidResponse(r *request, a *answer, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	what := fmt.Sprintf("status %d", a.status)
	if contentType := a.header.Get("Content-Type"); contentType != "application/json" {
		what += fmt.Sprintf(", content type %q", c.clean(r, contentType, 100))
	}
	return c.callError(r, fmt.Errorf("%w: %s: %s", ErrInvalidResponse, what, c.clean(r, err.Error(), maxMessage)))
}
