package nomad

import (
	"context"

	"github.com/nomad-go/nomad/internal/reload"
)

// WithTokenFile sends the ACL token in a file, in place of that of WithToken, and follows the file when it changes: for
// workload identities, which Nomad writes to ${NOMAD_SECRETS_DIR}/nomad_token, and for tokens that Vault or Consul render.
//
// The file holds the token, with white space around it if need be, and must exist when NewClient or With is called. It is
// read again by the first request after a second, and when the agent refuses the token: if it holds another token by then,
// the request is sent once more. While the file is missing, empty or not a token, the previous token is used and WithLogger
// gets one warning. A file system that hangs delays a request until its context ends.
func WithTokenFile(path string) Option {
	return func(s *settings) error {
		s.token, s.tokenPath, s.tokenFile = "", &path, nil
		return nil
	}
}

// openTokenFile reads the file of WithTokenFile for the first time. The logger is known by then.
func (s *settings) openTokenFile() (err error) {
	if s.tokenPath != nil && s.tokenFile == nil {
		s.tokenFile, err = reload.NewToken(*s.tokenPath, s.logger)
	}
	return err
}

// token returns the current ACL token.
func (c *Client) token(ctx context.Context) (string, error) {
	if file := c.settings.tokenFile; file != nil {
		return file.Get(ctx)
	}
	return c.settings.token, nil
}
