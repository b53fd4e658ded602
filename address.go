package nomad

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// address is where an agent is reached.
type address struct {
	scheme string // http or https; empty where the address left it open
	host   string // host or host:port
	prefix string // an escaped path in front of /v1, without a slash at its end
	socket string // the path of a unix socket; then host names no machine
}

// socketHost stands for a unix socket's agent in the Host header, as no name of a machine does.
const socketHost = "localhost"

const addressForms = "want http://host:port, https://host:port, unix:///path/to/socket or host:port"

var errUserInAddress = errors.New("the address has a user or password in it: use WithBasicAuth or NOMAD_HTTP_AUTH")

// parseAddress reads an address as people write it. Its errors do not repeat an address that has a password in it.
func parseAddress(s string) (address, error) {
	if s == "" {
		return address{}, errors.New("the address is empty: " + addressForms)
	}
	if path, ok := cutPrefixFold(s, "unix://"); ok {
		if !filepath.IsAbs(path) && !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
			return address{}, fmt.Errorf("%q: the socket's path is not absolute: want unix:///path/to/socket", s)
		}
		return address{scheme: "http", host: socketHost, socket: path}, nil
	}
	shown := strconv.Quote(s)
	if strings.Contains(s, "@") {
		shown = "an address with an @ in it" // what is in front of the @ may be a password, however odd the rest
	}
	if !strings.Contains(s, "://") {
		host, port, err := net.SplitHostPort(s)
		switch {
		case strings.Contains(s, "@"):
			return address{}, errUserInAddress
		case err != nil || !isHost(host) || !isPort(port):
			return address{}, fmt.Errorf("%s: %s", shown, addressForms)
		}
		return address{host: net.JoinHostPort(host, port)}, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return address{}, fmt.Errorf("%s: %s", shown, addressForms)
	case u.User != nil:
		return address{}, errUserInAddress
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return address{}, fmt.Errorf("%s: an address has no query or fragment: %s", shown, addressForms)
	case u.Scheme != "http" && u.Scheme != "https", !isHost(u.Hostname()), strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return address{}, fmt.Errorf("%s: %s", shown, addressForms)
	}
	prefix := u.EscapedPath()
	if u.RawPath != "" {
		prefix = escapeRest(u.RawPath)
	}
	prefix = strings.TrimRight(prefix, "/")
	if strings.HasSuffix(prefix, "/v1") || strings.Contains(prefix, "/v1/") {
		return address{}, fmt.Errorf("%s: leave out /v1, calls add it", shown)
	}
	return address{scheme: u.Scheme, host: u.Host, prefix: prefix}, nil
}

// String is the address as errors show it.
func (a address) String() string {
	if a.socket != "" {
		return "unix://" + a.socket
	}
	u := a.base()
	return u.String()
}

// base is the URL that the paths of requests are appended to.
func (a address) base() url.URL {
	path, _ := url.PathUnescape(a.prefix) // it was parsed before
	return url.URL{Scheme: a.scheme, Host: a.host, Path: path, RawPath: a.prefix}
}

// notInNames are printable characters that no host's name and no zone has. An underscore is common though not proper.
const notInNames = "/\\@?#[]%<>\"'`{}|^,;!$&()*+=~"

// escapeRest escapes what still has to be in an escaped path. Package url would take the whole of such a path for one that is
// not escaped, and make a slash of each %2F.
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

// isHost reports whether s can be a host's name or IP address, without brackets. Names are left to the resolver; this
// only refuses what cannot be one.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		addr, err := netip.ParseAddr(s)
		return err == nil && (addr.Zone() == "" || isHost(addr.Zone()))
	}
	return isName(s) && utf8.ValidString(s) && !strings.ContainsAny(s, notInNames)
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
