package nomad

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeOptions are for what agents write. Logs and host data hold whatever bytes a machine has, so invalid UTF-8 is
// replaced, not refused.
var decodeOptions = json.JoinOptions(jsontext.AllowInvalidUTF8(true))

// checker is a result that can tell when an answer was JSON, but not the JSON that was asked for.
type checker interface{ check() error }

// read sends a request and decodes the answer into a T.
func read[T any](ctx context.Context, c *Client, r *request) (*T, error) {
	a, err := c.ok(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.release()
	out := new(T)
	if err := decode(a.body.Bytes(), out); err != nil {
		return nil, c.invalidResponse(r, a, err)
	}
	return out, nil
}

// done sends a request whose answer has no content.
func done(ctx context.Context, c *Client, r *request) error {
	a, err := c.ok(ctx, r)
	if err != nil {
		return err
	}
	defer a.release()
	// A page of text or HTML is not the agent's: something else answered.
	if body := bytes.TrimSpace(a.body.Bytes()); len(body) > 0 && !jsontext.Value(body).IsValid() {
		return c.invalidResponse(r, a, errors.New("want an empty answer"))
	}
	return nil
}

// decode reads exactly one JSON value.
func decode(body []byte, out any) error {
	if err := isJSONValue(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, out, decodeOptions); err != nil {
		return err
	}
	if result, ok := out.(checker); ok {
		return result.check()
	}
	return nil
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

// invalidResponse reports an answer that is not what the endpoint answers. What a decoder says can repeat parts of the
// answer, so it is cleaned like a message.
func (c *Client) invalidResponse(r *request, a *answer, err error) error {
	what := fmt.Sprintf("status %d", a.status)
	if contentType := a.header.Get("Content-Type"); contentType != "application/json" {
		what += fmt.Sprintf(", content type %.100q", contentType)
	}
	return c.callError(r, fmt.Errorf("%w: %s: %s", ErrInvalidResponse, what, c.cleanMessage(r, err.Error())))
}
