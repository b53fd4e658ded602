package nomad

import (
	"context"

	"github.com/nomad-go/nomad/internal/reload"
)

// WithTokenFile sends the ACL token that a file holds, in place of WithToken's, and follows the file when it changes: for
// workload identities, as Nomad writes them to ${NOMAD_SECRETS_DIR}/nomad_token, and for tokens that an agent of Vault or
// Consul renders. The file holds the token and nothing else but white space around it, and must exist when NewClient or
// With is called.
//
// The file is read again by the first call after a second. When the agent refuses the token, the file is read again, and
// the call is made once more if it holds another token by then. While the file is missing, empty or not a token, the token
// read last stays, and the logger of WithLogger receives one warning. A file system that hangs delays a call until its
// context ends.
func WithTokenFile(path string) Option {
	return func(s *settings) error {
		s.token, s.tokenPath, s.tokenFile = "", &path, nil
		return nil
	}
}

// openTokenFile reads the file of WithTokenFile for the first time, when the logger is known.
func (s *settings) openTokenFile() (err error) {
	if s.tokenPath != nil && s.tokenFile == nil {
		s.tokenFile, err = reload.NewToken(*s.tokenPath, s.logger)
	}
	return err
}

// token returns the token that a request sends now.
func (c *Client) token(ctx context.Context) (string, error) {
	if file := c.settings.tokenFile; file != nil {
		return file.Get(ctx)
	}
	return c.settings.token, nil
}
