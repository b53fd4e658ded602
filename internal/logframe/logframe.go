// Package logframe reads the log streams of Nomad agents: a sequence of JSON objects, each of which has a piece of the
// log in base64. An object without a piece is a heartbeat.
package logframe

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/internal/redact"
)

// MaxFrame is how many bytes a frame may have. Agents send about 90 kB at most.
const MaxFrame = 1 << 20

// MaxMessage is how many bytes of what is not a frame a FormatError has at most.
const MaxMessage = 1 << 10

// FormatError reports something that is not a frame, such as the message of an agent that failed.
type FormatError struct {
	Message string // the beginning of it, as it was received; empty if there is nothing readable
	Err     error  // what is wrong with it
}

func (e *FormatError) Error() string { return e.Err.Error() }
func (e *FormatError) Unwrap() error { return e.Err }

// Reader reads the frames of a log. It keeps at most one of them in memory.
type Reader struct {
	dec   *jsontext.Decoder
	from  *limitedReader
	frame struct{ Data []byte }
}

// NewReader returns a Reader of the frames that r has.
func NewReader(r io.Reader) *Reader {
	from := &limitedReader{r: r}
	return &Reader{dec: jsontext.NewDecoder(from, jsontext.AllowInvalidUTF8(true)), from: from}
}

// Next reads a frame and returns its piece of the log, which is valid until the next call and empty for a heartbeat.
//
// Its error is io.EOF at the end of the stream, io.ErrUnexpectedEOF if it ends within a frame, a FormatError for what is
// not a frame, and otherwise the error of the underlying reader.
func (r *Reader) Next() ([]byte, error) {
	r.from.left = MaxFrame
	r.frame.Data = r.frame.Data[:0]
	if kind := r.dec.PeekKind(); kind != '{' && kind != jsontext.KindInvalid {
		return nil, r.notFrame(fmt.Errorf("a frame begins with %q", kind))
	}
	err := json.UnmarshalDecode(r.dec, &r.frame)
	switch {
	case err == nil, err == io.EOF:
		return r.frame.Data, err
	case r.from.err != nil: // it explains why the frame has no end
		return nil, r.from.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, io.ErrUnexpectedEOF
	}
	return nil, r.notFrame(err)
}

// Arrived reports whether anything arrived during the last call of Next.
func (r *Reader) Arrived() bool { return r.from.left < MaxFrame }

// notFrame reports what the stream has in place of a frame.
func (r *Reader) notFrame(err error) error {
	message := append([]byte(nil), r.dec.UnreadBuffer()...)
	if len(message) < MaxMessage { // the rest is on its way
		r.from.left = MaxMessage - len(message)
		more, _ := io.ReadAll(io.LimitReader(r.from, int64(r.from.left)))
		message = append(message, more...)
	}
	return &FormatError{string(message[:min(len(message), MaxMessage)]), err}
}

// limitedReader reads up to left bytes and notes the error of its reader.
type limitedReader struct {
	r    io.Reader
	left int
	err  error // other than io.EOF
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.err = &FormatError{Err: fmt.Errorf("a frame is larger than %d bytes", MaxFrame)}
		return 0, l.err
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// IsMessage reports whether what is in place of a frame is an agent's message, and not a piece of JSON.
func IsMessage(text string) bool {
	text = redact.Line(text, MaxMessage)
	return text != "" && !strings.ContainsAny(text[:1], "{}[]\"")
}

// LostError is a connection that was lost while a log was read. It is an io.ErrUnexpectedEOF.
type LostError struct{ Err error }

func (e LostError) Error() string        { return e.Err.Error() }
func (e LostError) Unwrap() error        { return e.Err }
func (e LostError) Is(target error) bool { return target == io.ErrUnexpectedEOF }
