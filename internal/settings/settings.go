// Package settings holds what the options of a Client set. Each option checks its value.
package settings

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/nomad-go/nomad/internal/agenturl"
	"github.com/nomad-go/nomad/internal/header"
	"github.com/nomad-go/nomad/internal/reload"
	"github.com/nomad-go/nomad/internal/transport"
	"github.com/nomad-go/nomad/internal/version"
)

// Option sets something. Its error names the option.
type Option func(*Settings) error

// Settings are what options set. They do not change once they are applied.
type Settings struct {
	Address         agenturl.Address
	Token           string
	TokenFile       *reload.Token // in place of Token
	Region          string
	Namespace       string
	User, Password  string
	Header          http.Header // of WithHeader
	Common          http.Header // of all requests
	Timeout         time.Duration
	MaxResponseSize int64 // 0 for the limits of the endpoints
	Compression     bool
	Retries         int
	Logger          Logger

	tokenPath  *string
	userAgent  string
	tls        *reload.Files
	tlsFiles   *reload.TLS // what follows tls
	tlsConfig  *tls.Config
	httpClient *http.Client
	wrappers   []func(http.RoundTripper) http.RoundTripper
	maxConns   int

	// reconnects has the names of the given options that only NewClient accepts, because connections depend on them.
	reconnects []string
}

// Defaults are the defaults of options.
type Defaults struct {
	Timeout           time.Duration
	MaxConns, Retries int
}

// New returns the settings of a Client.
func New[O ~func(*Settings) error](d Defaults, opts []O) (*Settings, []error) {
	s := &Settings{
		Address:   agenturl.Address{Host: "127.0.0.1:4646"},
		Header:    http.Header{},
		Timeout:   d.Timeout,
		Retries:   d.Retries,
		Logger:    noLogger{},
		userAgent: version.UserAgent,
		maxConns:  d.MaxConns,
	}
	errs := apply(s, opts)
	return s, errs
}

// With returns the settings of another Client with the same connections.
func With[O ~func(*Settings) error](s *Settings, opts []O) (*Settings, []error) {
	other := *s
	other.Header = s.Header.Clone()
	other.reconnects = nil
	if errs := apply(&other, opts); errs != nil {
		return nil, errs
	}
	if other.Address.Socket != s.Address.Socket {
		other.reconnects = append(other.reconnects, "WithAddress to or from a unix socket")
	}
	if len(other.reconnects) > 0 {
		return nil, []error{fmt.Errorf("%s: it takes effect when connections are made: use NewClient", other.reconnects[0])}
	}
	return &other, nil
}

// apply applies options and reports every one that fails.
func apply[O ~func(*Settings) error](s *Settings, opts []O) []error {
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		switch err := opt(s).(type) {
		case nil:
		case interface{ Unwrap() []error }:
			errs = append(errs, err.Unwrap()...)
		default:
			errs = append(errs, err)
		}
	}
	if s.tokenPath != nil && s.TokenFile == nil { // the logger is known now
		var err error
		if s.TokenFile, err = reload.NewToken(*s.tokenPath, s.Logger); err != nil {
			errs = append(errs, fmt.Errorf("WithTokenFile: %w", err))
		}
	}
	if s.Address.Scheme == "" {
		s.Address.Scheme = "http"
		if s.tls != nil || s.tlsConfig != nil {
			s.Address.Scheme = "https"
		}
	}
	s.Common = s.commonHeader()
	return errs
}

// commonHeader returns the headers of all requests.
func (s *Settings) commonHeader() http.Header {
	h := maps.Clone(s.Header)
	h["User-Agent"] = []string{s.userAgent}
	h["Accept"] = []string{"application/json, text/plain;q=0.5, */*;q=0.1"}
	switch {
	case s.Compression:
		h["Accept-Encoding"] = []string{"gzip"}
	case s.httpClient != nil:
		h["Accept-Encoding"] = []string{"identity"} // or its transport would ask for gzip
	}
	if s.Token != "" {
		h["X-Nomad-Token"] = []string{s.Token}
	}
	if s.User != "" {
		h["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(s.User+":"+s.Password))}
	}
	return h
}

// CurrentToken returns the current ACL token.
func (s *Settings) CurrentToken(ctx context.Context) (string, error) {
	if s.TokenFile != nil {
		return s.TokenFile.Get(ctx)
	}
	return s.Token, nil
}

// Transport makes the http.Client that the settings describe. The errors are those of transport.Config.
func (s *Settings) Transport(closed, redirect, unsupported error) (*transport.Client, error) {
	if s.httpClient != nil {
		if s.Address.Socket != "" {
			s.reconnects = append(s.reconnects, "a unix address")
		}
		for _, name := range s.reconnects {
			if name != "WithHTTPClient" && name != "WithTransport" {
				return nil, fmt.Errorf("WithHTTPClient: it cannot be combined with %s", name)
			}
		}
	}
	config := transport.FixedTLS(s.tlsConfig)
	if s.tls != nil {
		var err error
		if s.tlsFiles, err = reload.NewTLS(*s.tls, s.Logger); err != nil {
			return nil, err
		}
		config = s.tlsFiles.Config
	}
	return transport.New(transport.Config{
		Socket: s.Address.Socket, MaxConns: s.maxConns, TLS: config, Client: s.httpClient, Wrappers: s.wrappers,
		ErrClosed: closed, ErrRedirect: redirect, ErrUnsupported: unsupported,
	})
}

// CertificatesChanged reports whether the files with the certificates changed a moment ago.
func (s *Settings) CertificatesChanged() bool { return s.tlsFiles != nil && s.tlsFiles.Changed() }

// Secrets returns what must not appear in an error.
func (s *Settings) Secrets() []string {
	secrets := append(header.Secrets(s.Header), s.Token, s.Password)
	if s.User != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(s.User+":"+s.Password)))
	}
	base := s.Address.Base()
	if s.httpClient != nil || s.Address.Socket != "" {
		return secrets
	}
	if proxy, _ := http.ProxyFromEnvironment(&http.Request{URL: &base}); proxy != nil && proxy.User != nil {
		password, _ := proxy.User.Password()
		secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	return secrets
}
