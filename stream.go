package nomad

import (
	"bufio"
	"compress/gzip"
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

// stream is an answer that is read as it comes. It has a connection of its own.
type stream struct {
	client *Client
	r      *request
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	body   io.ReadCloser
	header http.Header
	plain  io.Reader   // the body without its compression
	head   *time.Timer // ends the stream when its beginning takes too long; stop it when that has come
	timer  *time.Timer // ends the stream when it is silent
	close  sync.Once
}

// open sends a request, again where that is safe and helps, and returns when the head of the answer is here. The limit is
// for all until the caller stops the timer head; what follows has no limit but the context and silence.
func (c *Client) open(ctx context.Context, r *request, limit time.Duration) (*stream, error) {
	if err := c.ready(ctx, r); err != nil {
		return nil, err
	}
	r.stream = true
	s := &stream{client: c, r: r, caller: ctx, limit: limit}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	r.deadline = time.Now().Add(limit)
	s.head = time.AfterFunc(limit, func() { s.cancel(context.DeadlineExceeded) })
	a, err := c.send(s.ctx, r)
	switch {
	case err != nil:
	case a.live == nil && a.status < 300:
		err = c.invalidResponse(r, a, errors.New("want status 200"))
		a.release()
	case a.live == nil:
		err = c.failure(r, a)
		a.release()
	default:
		s.body = a.live
		s.header = a.header
		err = s.decompress(a)
	}
	if err == nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	if err != nil {
		err = s.explain(err)
		s.Close()
		return nil, err
	}
	s.timer = time.AfterFunc(stallLimit, func() { s.cancel(ErrStreamStalled) })
	s.timer.Stop()
	return s, nil
}

func (s *stream) decompress(a *answer) error {
	encoding, err := contentEncoding(a.header)
	if err != nil {
		return err
	}
	s.plain = s.body
	if encoding == "gzip" {
		unzipped, err := gzip.NewReader(bufio.NewReader(s.body))
		if err != nil {
			return fmt.Errorf("%w: it says that it is gzip: %w", ErrInvalidResponse, noEOF(err))
		}
		s.plain = unzipped
	}
	return nil
}

// waiting runs read, which takes from the body, and ends the stream if it takes too long.
func (s *stream) waiting(read func() error) error {
	s.timer.Reset(stallLimit)
	err := read()
	s.timer.Stop()
	if err == nil || err == io.EOF {
		return err
	}
	if s.ctx.Err() == nil && !errors.Is(err, ErrInvalidResponse) {
		err = fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	return s.explain(err)
}

// explain says why the stream ended.
func (s *stream) explain(err error) error {
	cause := context.Cause(s.ctx)
	switch {
	case s.ctx.Err() == nil:
	case s.caller.Err() != nil, errors.Is(cause, context.DeadlineExceeded):
		err = s.client.timeError(s.caller, s.limit, err)
	case errors.Is(cause, ErrStreamStalled):
		err = fmt.Errorf("%w: nothing came for %v", ErrStreamStalled, stallLimit)
	case errors.Is(cause, ErrClosed):
		err = ErrClosed
	}
	return s.client.callError(s.r, err)
}

// Close ends the stream and its connection. It can be called from another goroutine, and again.
func (s *stream) Close() error {
	s.close.Do(func() {
		s.cancel(ErrClosed)
		s.head.Stop()
		if s.timer != nil {
			s.timer.Stop()
		}
		if s.body != nil {
			s.body.Close()
		}
	})
	return nil
}
