package nomad

import "time"

// WithConnLifetime sets how long connections in use are kept.
func WithConnLifetime(d time.Duration) Option {
	return func(s *settings) error {
		s.connLifetime = d
		return nil
	}
}
