// Package reload follows files while a program runs: a file with an ACL token, and the PEM files of TLS.
// It reads them when a call or a handshake needs them and runs nothing in the background.
package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Logger receives a warning when a file cannot be used. *slog.Logger implements it.
type Logger interface {
	Warn(msg string, args ...any)
}

// follower holds the value of files and reads it again on demand. Reads run outside of locks and one at a
// time, so that a file system that hangs costs one goroutine.
type follower[T any] struct {
	read    func(last T) (T, error) // with an error it returns what stays of last
	warning string
	logger  Logger
	last    atomic.Pointer[reading[T]] // stored only by the read under way

	mu   sync.Mutex
	done chan struct{} // closed when the read under way has ended; nil if there is none
}

// reading is the result of a read.
type reading[T any] struct {
	value   T
	ended   time.Time
	problem string // the error of the read
}

// newFollower reads for the first time. That must succeed.
func newFollower[T any](read func(T) (T, error), warning string, logger Logger) (*follower[T], error) {
	var none T
	value, err := read(none)
	if err != nil {
		return nil, err
	}
	f := &follower[T]{read: read, warning: warning, logger: logger}
	f.last.Store(&reading[T]{value: value, ended: time.Now()})
	return f, nil
}

// reread returns the result of a read that began after the call, as an earlier one may have seen older files.
// When ctx ends first, it returns the last result and the cause.
func (f *follower[T]) reread(ctx context.Context) (*reading[T], error) {
	for range 2 { // the read under way, if there is one, and the next
		f.mu.Lock()
		earlier := f.done != nil
		if !earlier {
			f.done = make(chan struct{})
			go f.run(f.done)
		}
		done := f.done
		f.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return f.last.Load(), context.Cause(ctx)
		}
		if !earlier {
			break
		}
	}
	return f.last.Load(), nil
}

// run reads once.
func (f *follower[T]) run(done chan struct{}) {
	last := f.last.Load()
	value, err := f.read(last.value)
	next := &reading[T]{value: value, ended: time.Now()}
	if err != nil {
		next.problem = err.Error()
		if next.problem != last.problem {
			f.logger.Warn(f.warning, "error", next.problem)
		}
	}
	f.last.Store(next)
	f.mu.Lock()
	f.done = nil
	f.mu.Unlock()
	close(done)
}

const (
	maxFile = 16 << 20 // bytes that are read of a file
	maxPath = 200      // bytes of a path that errors quote
)

// readFile reads a regular file. Others, such as a pipe, cannot be read twice and may block. The errors do not quote a
// path that may be what the file should hold.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		if err := CheckPath(path); err != nil {
			return nil, err
		}
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file that can be read again", Shown(path))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(path, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = contentError(fmt.Sprintf("%s is too long: want at most %d bytes", Shown(path), maxFile))
	}
	if err == nil {
		content, err = plainText(path, content)
	}
	return content, withoutPath(path, err)
}

// contentError reports a file whose content cannot be a token or PEM.
type contentError string

func (e contentError) Error() string { return string(e) }

// plainText removes the byte order mark that some editors put in front of text.
func plainText(path string, content []byte) ([]byte, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, contentError(Shown(path) + " is encoded as UTF-16: want ASCII or UTF-8")
	}
	return bytes.TrimPrefix(content, []byte("\ufeff")), nil
}

// CheckPath refuses the content of a file in place of its path. Call it if there is no file with that name.
func CheckPath(path string) error {
	switch {
	case strings.Contains(path, "PRIVATE KEY"):
		return errors.New("this is a key, not the name of a file: use KeyPEM")
	case strings.Contains(path, "-----BEGIN"):
		return errors.New("this is PEM, not the name of a file: use the field that ends in PEM")
	case der.MatchString(path):
		return errors.New("this is a key or a certificate in base64, not the name of a file: want PEM, in the field that ends in PEM")
	case looksLikeToken(path):
		return errors.New("this is a token, not the name of a file: use WithToken")
	case strings.ContainsAny(path, "\r\n\x00"):
		return errors.New("this is not the name of a file: it has a line break or a zero byte")
	}
	return nil
}

var (
	token = regexp.MustCompile(`^\s*(?i:bearer\s+|\w+\s*[=:]\s*)?["']?(` +
		`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|eyJ[\w-]*\.[\w-]+\.[\w-]*)["']?\s*$`)
	der = regexp.MustCompile(`^\s*M[C-I][0-9A-Za-z+/\s]{46,}=*\s*$`)
)

// looksLikeToken reports whether a path is an ACL token or a workload identity.
func looksLikeToken(path string) bool { return token.MatchString(path) }

// Hidden stands for a path that must not be shown.
const Hidden = "the file"

// Shown returns a path in quotes, or Hidden if it may be what the file should hold.
func Shown(path string) string {
	if len(path) > maxPath || CheckPath(path) != nil {
		return Hidden
	}
	return strconv.Quote(path)
}

// withoutPath removes the path from an error if it must not be shown.
func withoutPath(path string, err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) && (Shown(path) == "the file" || Shown(failed.Path) == "the file") {
		return fmt.Errorf("%s the file: %w", failed.Op, failed.Err)
	}
	return err
}
