package nomad

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// WithTokenFile sends the ACL token that a file holds, in place of WithToken's, and takes up the new one when the file
// changes: for workload identities, as Nomad writes them to ${NOMAD_SECRETS_DIR}/nomad_token, and for tokens that an
// agent of Vault or Consul renders. The file holds the token and nothing else but space around it, and has to be there
// when the option is applied.
//
// The file is read again by the first call after a second, and by a call whose token was refused, which is then made once
// more with the new one. While the file is missing, empty or not a token, as it may be while it is written, the old token
// stays. A new token that the agent takes for malformed or unknown (ErrInvalidToken) does not replace one that it still
// takes. The logger of WithLogger is warned once when the file cannot be used.
func WithTokenFile(path string) Option {
	return func(s *settings) error {
		f := &tokenFile{path: path}
		token, err := f.read()
		if err != nil {
			return fmt.Errorf("WithTokenFile: %w", err)
		}
		f.current, f.checked = token, time.Now()
		s.token, s.tokenFile = "", f
		return nil
	}
}

const (
	tokenFileAge = time.Second // how old what was read of the file may get
	maxToken     = 64 << 10    // bytes; agents take less than 1 MiB of header
)

// tokenFile is where a token comes from.
type tokenFile struct {
	path string

	mu      sync.Mutex
	checked time.Time // when the file was read last
	current string    // what it held when it could be used last
	former  string    // what it held before that
	invalid string    // what it held when the agent did not take it but took the former one
	problem string    // why it cannot be used, as it was logged
}

// read gives the token that the file holds now. Its errors do not repeat what else it holds.
func (f *tokenFile) read() (string, error) {
	content, err := readFile(f.path)
	token := strings.TrimSpace(string(content))
	switch {
	case err != nil:
		return "", err
	case token == "":
		return "", fmt.Errorf("%q is empty: want an ACL token", f.path)
	case len(token) > maxToken:
		return "", fmt.Errorf("%q is too long for a token: want at most %d bytes", f.path, maxToken)
	case !isHeaderValue(token) || strings.ContainsAny(token, " \t"):
		return "", fmt.Errorf("%q holds a space, a line break or a character that no token has", f.path)
	}
	return token, nil
}

// refresh reads the file again.
func (f *tokenFile) refresh(logger logger) {
	f.checked = time.Now()
	token, err := f.read()
	switch {
	case err != nil:
		if f.problem != err.Error() {
			f.problem = err.Error()
			logger.Warn("nomad: the token file cannot be used, the old token stays", "error", f.problem)
		}
		return
	case token != f.current:
		if f.current != f.invalid {
			f.former = f.current
		}
		f.current, f.invalid = token, ""
	}
	f.problem = ""
}

// token is what to send now.
func (f *tokenFile) token(logger logger) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) > tokenFileAge {
		f.refresh(logger)
	}
	if f.current == f.invalid {
		return f.former
	}
	return f.current
}

// instead finds a token to send in place of those that the agent has refused: what the file holds by now or, if the agent
// could not make sense of the last one, what it held before. It reports whether there is one.
func (f *tokenFile) instead(refused []string, senseless bool, logger logger) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(logger)
	switch {
	case !slices.Contains(refused, f.current):
		return f.current, true
	case senseless && f.former != "" && !slices.Contains(refused, f.former):
		return f.former, true
	}
	return "", false
}

// accepted notes that the agent took a token after it had refused others.
func (f *tokenFile) accepted(token string, refused []string, logger logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if token == f.former && slices.Contains(refused, f.current) && f.invalid != f.current {
		f.invalid = f.current
		logger.Warn("nomad: the agent does not know the token in the file, the old one stays", "file", f.path)
	}
}

// all are the tokens that may have been sent.
func (f *tokenFile) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []string{f.current, f.former}
}

// note says what is wrong with the file, to those whose token was refused.
func (f *tokenFile) note() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problem
}

// token is what a request sends now.
func (c *Client) token() string {
	if s := c.settings; s.tokenFile != nil {
		return s.tokenFile.token(s.logger)
	}
	return c.settings.token
}
