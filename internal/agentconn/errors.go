package agentconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
)

var (
	// ErrFull reports that the agent accepts no more connections from this address, by its own words.
	ErrFull = errors.New("the agent accepts no more connections from this address")

	// ErrNoResponse reports that each new connection was closed without a response.
	ErrNoResponse = errors.New("each new connection was closed without a response: the agent accepts no more " +
		"connections from this address, or nothing there speaks this protocol")
)

// DialError reports that a connection could not be made. No request was sent.
type DialError struct {
	Err       error
	Permanent bool // the next attempt fails in the same way: a certificate, a protocol or a password was refused
}

func (e *DialError) Error() string { return e.Err.Error() }
func (e *DialError) Unwrap() error { return e.Err }

// LostError reports that the connection ended before the headers of the response were complete.
type LostError struct{ Err error }

func (e *LostError) Error() string {
	return "the connection was closed before the response: " + e.Err.Error()
}
func (e *LostError) Unwrap() error { return e.Err }

// ProxyError reports that a proxy refused to connect to the agent.
type ProxyError struct {
	StatusCode int
	Status     string // such as 502 Bad Gateway
}

func (e *ProxyError) Error() string {
	if e.StatusCode == http.StatusProxyAuthRequired {
		return fmt.Sprintf("the proxy wants another user or password: %q", e.Status)
	}
	return fmt.Sprintf("the proxy could not connect to the agent: %q", e.Status)
}

// ProtocolError reports a response that is not HTTP/1.1, or whose headers are too large.
type ProtocolError struct {
	Err      error
	TooLarge bool // the headers are
}

func (e *ProtocolError) Error() string { return e.Err.Error() }
func (e *ProtocolError) Unwrap() error { return e.Err }

// Classify gives an error of another http.RoundTripper the type that a Pool returns. The messages of the error say
// something only if it is an http.Transport.
func Classify(err error, from http.RoundTripper) error {
	var op *net.OpError
	_, known := from.(*http.Transport)
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return &DialError{err, isPermanent(err, op.Net == "unix")}
	case IsPlainHTTP(err):
		return &DialError{http.ErrSchemeMismatch, true}
	case isLost(err), known && isIdleEnd(err):
		return &LostError{err}
	case known:
		return protocolError(err)
	}
	return err
}

// IsPlainHTTP reports whether a TLS handshake failed because the other side speaks HTTP without TLS.
func IsPlainHTTP(err error) bool {
	var header tls.RecordHeaderError
	return errors.As(err, &header) && string(header.RecordHeader[:]) == "HTTP/"
}

// IsCertificate reports whether a TLS handshake failed because one side refused the other's certificate. Other alerts can
// end a connection on which the agent has received a request.
func IsCertificate(err error) bool {
	var alert *net.OpError
	return errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Error(), "certificate")
}

// isPermanent reports whether the next attempt to connect fails in the same way. A unix socket on which nobody listens may
// be that of an agent that restarts.
func isPermanent(err error, socket bool) bool {
	if socket {
		return slices.ContainsFunc([]error{fs.ErrNotExist, fs.ErrPermission, syscall.ENOTDIR, syscall.ENOTSOCK, syscall.EPROTOTYPE, syscall.ELOOP},
			func(target error) bool { return errors.Is(err, target) })
	}
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(tls.RecordHeaderError))
}

// protocolError gives an error of net/http, which has no types for it, its meaning.
func protocolError(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "response headers exceeded"):
		return &ProtocolError{err, true}
	case strings.Contains(text, "malformed"), strings.Contains(text, "HTTP/1.x transport connection broken"),
		strings.Contains(text, "1xx informational"):
		return &ProtocolError{err, false}
	}
	return err
}

// isLost reports whether a connection ended. A TLS alert does not count, except for what is left of a refusal that
// the agent could not write to its end.
func isLost(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op != "remote error" && (op.Op != "local error" || strings.Contains(err.Error(), "bad record MAC"))
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isIdleEnd reports whether an idle connection ended. net/http has no names for that.
func isIdleEnd(err error) bool {
	text := err.Error()
	return text == "http: server closed idle connection" || strings.HasPrefix(text, "readLoopPeekFailLocked:")
}
