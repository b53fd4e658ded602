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
	err   error
	lines *bufio.Reader
}

// NewText returns a Text that begins with a piece and goes on with those that next returns, until that fails.
func NewText(first []byte, next func() ([]byte, error)) *Text {
	t := &Text{piece: first, next: next}
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
func (t *Text) Read(p []byte) (int, error) { return t.lines.Read(p) }

// Lines returns the lines without their line breaks. An error other than io.EOF and ignored ends the sequence.
func (t *Text) Lines(ignored error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			line, err := t.line()
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

// line reads to the end of a line.
func (t *Text) line() (string, error) {
	var long []byte
	for {
		piece, err := t.lines.ReadSlice('\n')
		if err == nil && long == nil {
			return trimLine(piece), nil
		}
		long = append(long, piece...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(long) < MaxLine:
		case errors.Is(err, bufio.ErrBufferFull):
			return trimLine(append(long, t.lineBreak()...)), nil
		default:
			return trimLine(long), err
		}
	}
}

// lineBreak reads the line break if one is next.
func (t *Text) lineBreak() []byte {
	next, _ := t.lines.Peek(1) // an error comes again with the next line
	if string(next) == "\r" {
		next, _ = t.lines.Peek(2)
	}
	if !bytes.HasSuffix(next, []byte("\n")) {
		return nil
	}
	t.lines.Discard(len(next))
	return next
}

// trimLine removes the line break. Without one a carriage return is part of the line.
func trimLine(line []byte) string {
	text, ended := strings.CutSuffix(string(line), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
}
