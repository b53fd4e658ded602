package nomad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// stallLimit is how long a stream may be silent. Agents send a heartbeat every second.
const stallLimit = 10 * time.Second

// stream is a response that is read while it arrives. It has a connection of its own.
type stream struct {
	client *Client
	r      *request
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	raw    io.ReadCloser
	body   io.Reader // raw without its compression
	header http.Header
	begin  *time.Timer // ends the stream if its first bytes are late; the caller stops it when they have arrived
	stall  *time.Timer // ends the stream if it is silent
	close  sync.Once
}

// open sends a request, with retries, and returns when the headers of the response have arrived. The limit is for all
// that happens until the caller stops the timer begin. After that only the context and silence end the stream.
func (c *Client) open(ctx context.Context, r *request, limit time.Duration) (*stream, error) {
	s := &stream{client: c, r: r, caller: ctx, limit: limit}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	r.stream, r.deadline = true, time.Now().Add(limit)
	s.begin = time.AfterFunc(limit, func() { s.cancel(context.DeadlineExceeded) })
	s.stall = time.AfterFunc(limit, func() { s.cancel(ErrStreamStalled) })
	s.stall.Stop()
	res, err := c.send(s.ctx, r)
	if err == nil {
		err = s.start(res)
	}
	if err == nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
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
	s.body, err = decompress(&http.Response{Header: res.header, Body: res.stream})
	return err
}

// waiting runs read, which reads from the body, and ends the stream if it takes too long.
func (s *stream) waiting(read func() error) error {
	s.stall.Reset(stallLimit)
	err := read()
	s.stall.Stop()
	return err
}

// explain reports why the stream ended.
func (s *stream) explain(err error) error {
	cause := context.Cause(s.ctx)
	switch {
	case s.ctx.Err() == nil:
	case errors.Is(cause, ErrStreamStalled) && s.caller.Err() == nil:
		err = fmt.Errorf("%w: nothing arrived for %v", ErrStreamStalled, stallLimit)
	case errors.Is(cause, ErrClosed) && s.caller.Err() == nil:
		err = ErrClosed
	default:
		if !errors.Is(err, cause) {
			err = cause
		}
		err = s.client.timeError(s.ctx, s.caller, s.limit, err)
	}
	return s.client.requestError(s.r, err)
}

// Close ends the stream and its connection. It can be called from another goroutine, and again.
func (s *stream) Close() error {
	s.close.Do(func() {
		s.cancel(ErrClosed)
		s.begin.Stop()
		s.stall.Stop()
		if s.raw != nil {
			s.raw.Close()
		}
	})
	return nil
}
