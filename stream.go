package nomad

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/nomad-go/nomad/internal/body"
	"github.com/nomad-go/nomad/internal/guard"
)

// stallLimit is how long a stream may be silent. Agents send a heartbeat every second.
const stallLimit = 10 * time.Second

// stream is a response that is read while it arrives. It has a connection of its own.
type stream struct {
	*guard.Guard
	client *Client
	r      *request
	raw    io.ReadCloser
	body   io.Reader // raw without its compression
	header http.Header
}

// open sends a request, with retries, and returns when the headers of the response have arrived. The limit holds until the
// caller reports that the stream has begun. After that only the context and silence end the stream. The limit begins now,
// unless the request has a deadline.
func (c *Client) open(ctx context.Context, r *request, limit time.Duration) (*stream, error) {
	s := &stream{Guard: guard.New(ctx, limit, stallLimit, ErrStreamStalled, ErrClosed), client: c, r: r}
	r.stream, r.deadline = true, cmp.Or(r.deadline, time.Now().Add(limit))
	s.BeginBy(r.deadline)
	res, err := c.send(s.Context, r)
	if err == nil {
		err = s.start(res)
	}
	if err == nil && s.Context.Err() != nil {
		err = context.Cause(s.Context)
	}
	if err != nil {
		err = s.explain(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// start begins to read the body of a response.
func (s *stream) start(res *response) (err error) {
	if res.stream == nil {
		defer res.release()
		if res.status < 300 {
			return s.client.invalidResponse(s.r, res, errors.New("want status 200"))
		}
		return s.client.failure(s.r, res)
	}
	s.raw, s.header = res.stream, res.header
	if s.body, err = body.Decompress(res.header, res.stream); err != nil {
		err = bodyError(err)
	}
	return err
}

// explain reports why the stream ended.
func (s *stream) explain(err error) error { return s.client.requestError(s.r, s.Guard.Explain(err)) }

// Close ends the stream and its connection. It can be called from another goroutine, and again.
func (s *stream) Close() error {
	s.Guard.Close(func() {
		if s.raw != nil {
			s.raw.Close()
		}
	})
	return nil
}
