package settings

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/nomad-go/nomad/internal/reload"
)

// FromEnvironment is nomad.FromEnvironment.
func FromEnvironment() Option {
	return func(s *Settings) error {
		var errs []error
		set := func(name, option string, with func(value string) Option) {
			if value := os.Getenv(name); value != "" {
				if err := with(value)(s); err != nil {
					errs = append(errs, errors.New(name+strings.TrimPrefix(err.Error(), option)))
				}
			}
		}
		if os.Getenv("NOMAD_ADDR") != "" {
			set("NOMAD_ADDR", "WithAddress", WithAddress)
		} else {
			set("NOMAD_UNIX_ADDR", "WithAddress", withSocket)
		}
		set("NOMAD_TOKEN", "WithToken", WithToken)
		set("NOMAD_REGION", "", WithRegion)
		set("NOMAD_NAMESPACE", "", WithNamespace)
		set("NOMAD_HTTP_AUTH", "WithBasicAuth", func(value string) Option {
			user, password, _ := strings.Cut(value, ":")
			if user == "" {
				return func(*Settings) error { return errors.New(": want user:password") }
			}
			return WithBasicAuth(user, password)
		})
		var t reload.Files
		sources := map[string]string{}
		for _, v := range []struct {
			name, field string
			to          *string
		}{
			{"NOMAD_CACERT", "CAFile", &t.CAFile}, {"NOMAD_CAPATH", "CADir", &t.CADir}, {"NOMAD_CLIENT_CERT", "CertFile", &t.CertFile},
			{"NOMAD_CLIENT_KEY", "KeyFile", &t.KeyFile}, {"NOMAD_TLS_SERVER_NAME", "ServerName", &t.ServerName},
		} {
			if *v.to = os.Getenv(v.name); *v.to != "" {
				sources[v.field] = v.name
			}
		}
		skip := os.Getenv("NOMAD_SKIP_VERIFY")
		if skip != "" {
			var err error
			if t.SkipVerify, err = strconv.ParseBool(skip); err != nil {
				errs = append(errs, fmt.Errorf("NOMAD_SKIP_VERIFY: %q is neither true nor false", skip))
			}
		}
		// NOMAD_SKIP_VERIFY=false alone is no reason for https.
		hasTLS := s.tls != nil || s.tlsConfig != nil
		if len(sources) > 0 || t.SkipVerify || skip != "" && hasTLS {
			t.Source = func(field string) string { return cmp.Or(sources[field], "WithTLS: "+field) }
			s.tls, s.tlsConfig = &t, nil
			s.reconnects = append(s.reconnects, "FromEnvironment with TLS variables")
		}
		return errors.Join(errs...)
	}
}

// withSocket is WithAddress for the address or the path of a unix socket.
func withSocket(value string) Option {
	if !strings.Contains(value, "://") {
		value = "unix://" + value
	}
	if !strings.HasPrefix(value, "unix://") {
		return func(*Settings) error {
			return fmt.Errorf(": %q is not a unix socket: want unix:///path/to/socket", value)
		}
	}
	return WithAddress(value)
}
