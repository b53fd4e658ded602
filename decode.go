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

// checker is a result that can tell when an answer was JSON, but not the JSON that was asked for.
type checker interface{ check() error }

// parser reads exactly one JSON value.
type parser[T any] func(ctx context.Context, body []byte, out *T) error

// read sends a request and decodes the answer into a T.
func read[T any](ctx context.Context, c *Client, r *request) (*T, error) {
	return readWith(ctx, c, r, parse[T])
}

// readWith is read for a type that has a parser of its own.
func readWith[T any](ctx context.Context, c *Client, r *request, parse parser[T]) (*T, error) {
	out := new(T)
	err := c.do(ctx, r, func(ctx context.Context, a *answer) error {
		if err := decode(ctx, a.body.Bytes(), out, parse); err != nil {
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
func decode[T any](ctx context.Context, body []byte, out *T, parse parser[T]) error {
	if err := isJSONValue(body); err != nil {
		return err
	}
	if err := checkDensity(body); err != nil {
		return err
	}
	if err := parse(ctx, body, out); err != nil {
		return err
	}
	if result, ok := any(out).(checker); ok {
		return result.check()
	}
	return nil
}

// parse is the parser of types that change little between versions.
func parse[T any](ctx context.Context, body []byte, out *T) error {
	if len(body) > maxPooledBuffer {
		return json.UnmarshalRead(&contextReader{ctx, bytes.NewReader(body)}, out, decodeOptions)
	}
	return json.Unmarshal(body, out, decodeOptions)
}

// tokens hands a text to a parser that reads it token by token, and wants it to end where the parser does. The parser
// has to look for names that come twice.
func tokens(ctx context.Context, body []byte, read func(*textReader) error) error {
	r := textReaders.Get().(*textReader)
	r.text = *bytes.NewBuffer(body)
	if len(body) > maxPooledBuffer {
		r.Reset(&contextReader{ctx, &r.text}, tokenOptions) // this takes long enough for the time to end
	} else {
		r.Reset(&r.text, tokenOptions)
	}
	err := read(r)
	if err == nil {
		switch _, err = r.ReadToken(); {
		case err == io.EOF:
			err = nil
		case err == nil, ctx.Err() == nil:
			err = errors.New("something follows its end")
		}
	}
	if len(body) <= maxPooledText {
		r.text = bytes.Buffer{}
		r.Reset(&r.text)
		textReaders.Put(r)
	}
	return noEOF(err)
}

// tokenOptions are decodeOptions where names that come twice are looked for elsewhere, at less cost.
var tokenOptions = json.JoinOptions(decodeOptions, jsontext.AllowDuplicateNames(true))

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
	if err := r.ctx.Err(); err != nil {
		return 0, err
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
