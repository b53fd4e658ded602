// Package agenturl handles the URLs of agents: the addresses that people write, and the paths and queries of requests.
package agenturl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Address is the address of an agent.
type Address struct {
	Scheme string // http or https; empty if the address has none
	Host   string // host or host:port
	Prefix string // an escaped path in front of /v1, without a slash at its end
	Socket string // path of a unix socket; Host is the name of no machine then
}

// socketHost is the Host header of requests to a unix socket.
const socketHost = "localhost"

// maxSocket is how many bytes the path of a unix socket may have, as the system limits it.
var maxSocket = map[string]int{"linux": 107, "darwin": 103, "windows": 107}[runtime.GOOS]

const addressForms = "want http://host:port, https://host:port, unix:///path/to/socket or host:port"

var errUserInAddress = errors.New("the address has a user or password in it: use WithBasicAuth or NOMAD_HTTP_AUTH")

// Parse reads an address as people write it. Its errors do not repeat an address that has a password in it.
func Parse(s string) (Address, error) {
	if s == "" {
		return Address{}, errors.New("the address is empty: " + addressForms)
	}
	if path, ok := cutPrefixFold(s, "unix://"); ok {
		if !filepath.IsAbs(path) && !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
			return Address{}, fmt.Errorf("%q: the socket's path is not absolute: want unix:///path/to/socket", s)
		}
		if maxSocket > 0 && len(path) > maxSocket {
			return Address{}, fmt.Errorf("the path of the socket has %d bytes: want at most %d", len(path), maxSocket)
		}
		return Address{Scheme: "http", Host: socketHost, Socket: path}, nil
	}
	shown := strconv.Quote(s)
	switch { // the rest of an odd address may be a password
	case strings.Contains(s, "@"), strings.Contains(s, "%40"):
		shown = "an address with an @ in it"
	case hasNamedPort(s):
		shown = "an address with a port that is not a number"
	}
	if !strings.Contains(s, "://") {
		host, port, err := net.SplitHostPort(s)
		switch {
		case strings.Contains(s, "@"):
			return Address{}, errUserInAddress
		case err != nil || !isHost(host) || !isPort(port):
			return Address{}, fmt.Errorf("%s: %s", shown, addressForms)
		}
		return Address{Host: net.JoinHostPort(host, port)}, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%s: %s", shown, addressForms)
	case u.User != nil:
		return Address{}, errUserInAddress
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Address{}, fmt.Errorf("%s: an address has no query or fragment: %s", shown, addressForms)
	case u.Scheme != "http" && u.Scheme != "https", !isHost(u.Hostname()), strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return Address{}, fmt.Errorf("%s: %s", shown, addressForms)
	}
	prefix := u.EscapedPath()
	if u.RawPath != "" {
		prefix = escapeRest(u.RawPath)
	}
	prefix = strings.TrimRight(prefix, "/")
	if strings.HasSuffix(prefix, "/v1") || strings.HasSuffix(prefix, "/v1/agent") {
		return Address{}, fmt.Errorf("%s: leave out /v1, requests add it", shown)
	}
	return Address{Scheme: u.Scheme, Host: u.Host, Prefix: prefix}, nil
}

// String returns the address as errors show it.
func (a Address) String() string {
	if a.Socket != "" {
		return "unix://" + a.Socket
	}
	u := a.Base()
	return u.String()
}

// Key is the same for all ways to write the address.
func (a Address) Key() string {
	u := a.Base()
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port(&u)) + a.Prefix + a.Socket
}

// Base returns the URL that the paths of requests are appended to.
func (a Address) Base() url.URL {
	path, _ := url.PathUnescape(a.Prefix) // it was parsed before
	return url.URL{Scheme: a.Scheme, Host: a.Host, Path: path, RawPath: a.Prefix}
}

// notInNames are printable characters that no name of a host and no zone has. An underscore is common though not proper.
const notInNames = "/\\@?#[]%<>\"'`{}|^,;!$&()*+=~"

// escapeRest escapes what still has to be in an escaped path. Package url would take the whole of such a path for one that
// is not escaped, and make a slash of each %2F.
func escapeRest(path string) string {
	const plain = "-_.~%/!$&'()*+,;=:@[]"
	var b strings.Builder
	for i := range len(path) {
		if c := path[i]; c >= utf8.RuneSelf || !isAlphanumeric(c) && !strings.ContainsRune(plain, rune(c)) {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isHost reports whether s can be the name or IP address of a host, without brackets. Names are left to the resolver.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		addr, err := netip.ParseAddr(s)
		return err == nil && (addr.Zone() == "" || isHost(addr.Zone()))
	}
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, isSpace) && !strings.ContainsAny(s, notInNames)
}

func isSpace(r rune) bool { return r <= ' ' || r == 0x7f }

// hasNamedPort reports whether a URL has a port with other characters than digits.
func hasNamedPort(s string) bool {
	_, authority, _ := strings.Cut(s, "://")
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	authority = strings.TrimSpace(authority[strings.LastIndexByte(authority, ']')+1:])
	port := authority[strings.LastIndexByte(authority, ':')+1:]
	return port != authority && strings.Trim(port, "0123456789") != ""
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}
