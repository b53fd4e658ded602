package settings

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nomad-go/nomad/internal/agenturl"
	"github.com/nomad-go/nomad/internal/header"
	"github.com/nomad-go/nomad/internal/reload"
)

// WithAddress is nomad.WithAddress.
func WithAddress(addr string) Option {
	return func(s *Settings) (err error) {
		if s.Address, err = agenturl.Parse(addr); err != nil {
			err = fmt.Errorf("WithAddress: %w", err)
		}
		return err
	}
}

// WithToken is nomad.WithToken.
func WithToken(token string) Option {
	return func(s *Settings) error {
		if !header.IsValue(token) || token != strings.TrimSpace(token) {
			return errors.New("WithToken: the token has a space at an end or a character that a header cannot carry")
		}
		if i := strings.IndexFunc(token, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }); i >= 0 {
			return errors.New("WithToken: the token has a character that no token has: " + reload.CodePoint(token[i:]))
		}
		s.Token, s.tokenPath, s.TokenFile = token, nil, nil
		return nil
	}
}

// WithRegion is nomad.WithRegion.
func WithRegion(region string) Option {
	return func(s *Settings) error {
		s.Region = region
		return nil
	}
}

// WithNamespace is nomad.WithNamespace.
func WithNamespace(namespace string) Option {
	return func(s *Settings) error {
		s.Namespace = namespace
		return nil
	}
}

// WithBasicAuth is nomad.WithBasicAuth.
func WithBasicAuth(user, password string) Option {
	return func(s *Settings) error {
		if strings.Contains(user, ":") {
			return errors.New("WithBasicAuth: a user cannot contain a colon")
		}
		if user == "" && password != "" {
			return errors.New("WithBasicAuth: a password needs a user")
		}
		s.User, s.Password = user, password
		s.Header.Del("Authorization")
		return nil
	}
}

// WithHeader is nomad.WithHeader.
func WithHeader(name, value string) Option {
	return func(s *Settings) error {
		if !header.IsName(name) {
			return fmt.Errorf("WithHeader(%q): not the name of a header", name)
		}
		name := http.CanonicalHeaderKey(name)
		if why := header.Reserved(name); why != "" {
			return fmt.Errorf("WithHeader(%q): %s", name, why)
		}
		if !header.IsValue(value) {
			return fmt.Errorf("WithHeader(%q): the value has a character that a header cannot carry", name)
		}
		if value == "" {
			s.Header.Del(name)
			return nil
		}
		if name == "Authorization" {
			s.User, s.Password = "", ""
		}
		s.Header.Set(name, value)
		return nil
	}
}

// WithUserAgent is nomad.WithUserAgent.
func WithUserAgent(name string) Option {
	return func(s *Settings) error {
		if strings.TrimSpace(name) == "" || !header.IsValue(name) {
			return fmt.Errorf("WithUserAgent(%q): want text on one line", name)
		}
		s.userAgent = name
		return nil
	}
}

// WithTLS is nomad.WithTLS.
func WithTLS(t reload.Files) Option {
	return func(s *Settings) error {
		s.tls, s.tlsConfig = &t, nil
		s.reconnects = append(s.reconnects, "WithTLS")
		return nil
	}
}

// WithTLSConfig is nomad.WithTLSConfig.
func WithTLSConfig(config *tls.Config) Option {
	return func(s *Settings) error {
		if config == nil {
			return errors.New("WithTLSConfig: the configuration is nil")
		}
		if config.MinVersion != 0 && config.MinVersion < tls.VersionTLS12 {
			return fmt.Errorf("WithTLSConfig: MinVersion is %s, want TLS 1.2 or later", tls.VersionName(config.MinVersion))
		}
		s.tls, s.tlsConfig = nil, config.Clone()
		s.reconnects = append(s.reconnects, "WithTLSConfig")
		return nil
	}
}

// WithHTTPClient is nomad.WithHTTPClient.
func WithHTTPClient(client *http.Client) Option {
	return func(s *Settings) error {
		if client == nil {
			return errors.New("WithHTTPClient: the client is nil")
		}
		s.httpClient = client
		s.reconnects = append(s.reconnects, "WithHTTPClient")
		return nil
	}
}

// WithTransport is nomad.WithTransport.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return func(s *Settings) error {
		if wrap == nil {
			return errors.New("WithTransport: the function is nil")
		}
		s.wrappers = append(slices.Clip(s.wrappers), wrap)
		s.reconnects = append(s.reconnects, "WithTransport")
		return nil
	}
}

// WithTimeout is nomad.WithTimeout.
func WithTimeout(d time.Duration) Option {
	return func(s *Settings) error {
		if d <= 0 {
			return fmt.Errorf("WithTimeout(%v): want more than 0", d)
		}
		s.Timeout = min(d, math.MaxInt64/2) // so that something can be added
		return nil
	}
}

// WithMaxConns is nomad.WithMaxConns.
func WithMaxConns(n int) Option {
	return func(s *Settings) error {
		if n < 1 {
			return fmt.Errorf("WithMaxConns(%d): want at least 1", n)
		}
		s.maxConns = n
		s.reconnects = append(s.reconnects, "WithMaxConns")
		return nil
	}
}

// WithMaxResponseSize is nomad.WithMaxResponseSize.
func WithMaxResponseSize(bytes int64) Option {
	return func(s *Settings) error {
		if bytes < 1 {
			return fmt.Errorf("WithMaxResponseSize(%d): want at least 1 byte", bytes)
		}
		s.MaxResponseSize = min(bytes, math.MaxInt32)
		return nil
	}
}

// WithCompression is nomad.WithCompression.
func WithCompression(enabled bool) Option {
	return func(s *Settings) error {
		s.Compression = enabled
		return nil
	}
}

// WithRetries is nomad.WithRetries.
func WithRetries(n int) Option {
	return func(s *Settings) error {
		if n < 0 {
			return fmt.Errorf("WithRetries(%d): want 0 or more", n)
		}
		s.Retries = n
		return nil
	}
}

// WithLogger is nomad.WithLogger.
func WithLogger(logger *slog.Logger) Option {
	return func(s *Settings) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil")
		}
		s.Logger = logger
		return nil
	}
}

// WithTokenFile is nomad.WithTokenFile.
func WithTokenFile(path string) Option {
	return func(s *Settings) error {
		s.Token, s.tokenPath, s.TokenFile = "", &path, nil
		return nil
	}
}
