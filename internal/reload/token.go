package reload

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	tokenAge = time.Second // how long a token is used before the file is read again
	maxToken = 64 << 10    // bytes; agents accept less than 1 MiB of headers
)

// Token is an ACL token that follows a file. While the file is missing, empty or not a token, the token that
// was read last stays, and the logger is warned once per problem.
type Token struct{ file *follower[string] }

// NewToken reads the file for the first time. It returns an error if the file holds no token.
// The logger must not be nil.
func NewToken(path string, logger Logger) (*Token, error) {
	file, err := newFollower(func(last string) (string, error) { return readToken(path, last) },
		"nomad: the token file cannot be used, the old token stays", logger)
	if err != nil {
		return nil, err
	}
	return &Token{file}, nil
}

// Get returns the current token. It reads the file again if the last read is older than a second, and returns
// the cause if ctx ends first.
func (t *Token) Get(ctx context.Context) (string, error) {
	last := t.file.last.Load()
	if time.Since(last.ended) > tokenAge {
		var err error
		if last, err = t.file.reread(ctx); err != nil {
			return "", err
		}
	}
	return last.value, nil
}

// Reread reads the file again after the agent refused a token. It returns the cause if ctx ends first.
func (t *Token) Reread(ctx context.Context) (string, error) {
	last, err := t.file.reread(ctx)
	if err != nil {
		return "", err
	}
	return last.value, nil
}

// Last returns the token that was read last.
func (t *Token) Last() string { return t.file.last.Load().value }

// Problem returns why the file could not be used when it was read last, or "" if it could.
func (t *Token) Problem() string { return t.file.last.Load().problem }

// CodePoint names the first character of a text, such as U+200B.
func CodePoint(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("the byte 0x%02X", text[0])
	}
	return fmt.Sprintf("%U", r)
}

// readToken returns the token in a file, or last and an error that does not repeat what the file holds.
func readToken(path, last string) (string, error) {
	content, err := readFile(path)
	token := strings.TrimSpace(string(content))
	i := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
	switch {
	case err != nil:
	case token == "":
		err = fmt.Errorf("%s is empty: want an ACL token", Shown(path))
	case len(token) > maxToken:
		err = fmt.Errorf("%s is too long for a token: want at most %d bytes", Shown(path), maxToken)
	case i >= 0:
		err = fmt.Errorf("%s holds a character that no token has: %s", Shown(path), CodePoint(token[i:]))
	default:
		return token, nil
	}
	return last, err
}
