package logframe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"strings"
)

// MaxLine is how many bytes a line has at most. A longer one is split.
const MaxLine = 1 << 20

// Text is the text of a log: the pieces of its frames put together.
type Text struct {
	piece []byte // what is left of a frame
	next  func() ([]byte, error)
	ended func() error
	err   error
	lines *bufio.Reader

	begin  []byte // of the next line, which was read with the piece before
	isRest bool   // the next line is what follows a piece of a line that was too long
}

// NewText returns a Text that begins with a piece and goes on with those that next returns, until that fails, or until
// ended returns an error.
func NewText(first []byte, next func() ([]byte, error), ended func() error) *Text {
	t := &Text{piece: first, next: next, ended: ended}
	t.lines = bufio.NewReaderSize(readerFunc(t.read), 16<<10)
	return t
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (t *Text) read(p []byte) (int, error) {
	for len(t.piece) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		t.piece, t.err = t.next()
	}
	n := copy(p, t.piece)
	t.piece = t.piece[n:]
	return n, nil
}

// Read reads the text.
func (t *Text) Read(p []byte) (int, error) {
	if err := t.ended(); err != nil {
		return 0, err
	}
	return t.lines.Read(p)
}

// Lines returns the lines without their line breaks. An error other than io.EOF and ignored ends the sequence.
func (t *Text) Lines(ignored error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			line, err := "", t.ended()
			if err == nil {
				line, err = t.line()
			}
			if line != "" || err == nil {
				if !yield(line, nil) {
					return
				}
			}
			if err != nil {
				if err != io.EOF && !errors.Is(err, ignored) {
					yield("", err)
				}
				return
			}
		}
	}
}

// line reads to the end of a line, or of a piece of a line that is too long. It does not wait for what follows a piece.
func (t *Text) line() (string, error) {
	long, isRest := t.begin, t.isRest
	t.begin, t.isRest = nil, false
	for {
		piece, err := t.lines.ReadSlice('\n')
		if err == nil && long == nil && !isRest {
			return trimLine(piece), nil
		}
		long = append(long, piece...)
		switch {
		case err == nil && isRest && trimLine(long) == "": // the end of the piece before
			long, isRest = nil, false
		case errors.Is(err, bufio.ErrBufferFull) && len(long) < MaxLine:
		case errors.Is(err, bufio.ErrBufferFull):
			t.isRest = true
			if bytes.HasSuffix(long, []byte("\r")) { // it may be a part of the line break
				long, t.begin = long[:len(long)-1], []byte("\r")
			}
			return string(long), nil
		default:
			return trimLine(long), err
		}
	}
}

// trimLine removes the line break. Without one a carriage return is part of the line.
func trimLine(line []byte) string {
	text, ended := strings.CutSuffix(string(line), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
}
