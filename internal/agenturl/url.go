package agenturl

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CheckPath refuses paths that would reach something else than they say.
func CheckPath(path string) error {
	u, err := url.ParseRequestURI(path)
	switch {
	case err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return fmt.Errorf("%q is not a path: want one such as /v1/jobs", path)
	case strings.ContainsAny(path, "?#"):
		return fmt.Errorf("%q has a query or fragment in it: use Query", path)
	case slices.Contains(strings.Split(u.Path, "/"), ".."), slices.Contains(strings.Split(u.Path, "/"), "."):
		return fmt.Errorf("%q has . or .. in it", path)
	}
	return nil
}

// Join returns base with an escaped path appended.
func Join(base url.URL, path string) (url.URL, error) {
	u, escaped := base, base.EscapedPath()+path
	u.Path, u.RawPath = escaped, ""
	if strings.Contains(escaped, "%") {
		unescaped, err := url.PathUnescape(escaped)
		if err != nil {
			return u, errors.New("the path has an invalid escape")
		}
		u.Path, u.RawPath = unescaped, escapeRest(escaped)
	}
	return u, nil
}

// WithDefault returns query with a value for name, unless it has one or the value is empty. It does not change query.
func WithDefault(query url.Values, name, value string) url.Values {
	if value == "" || query.Has(name) {
		return query
	}
	if query = maps.Clone(query); query == nil {
		query = url.Values{}
	}
	query.Set(name, value)
	return query
}

// The waits of blocking queries. An agent adds up to a sixteenth.
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

// BlockingWait returns how long an agent may hold a request until something changes; 0 if the query is not blocking.
func BlockingWait(query url.Values) time.Duration {
	if index, err := strconv.ParseUint(query.Get("index"), 10, 64); err != nil || index == 0 {
		return 0
	}
	wait := defaultWait
	if d, err := time.ParseDuration(query.Get("wait")); err == nil && d > 0 {
		wait = min(d, maxWait)
	}
	return wait + wait/16
}

// SameHost reports whether two URLs have the same scheme, host and port.
func SameHost(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// MayRedirect reports whether a redirect stays on the same host and port, or leads from the default port of http to that
// of https.
func MayRedirect(from, to *url.URL) bool {
	return SameHost(from, to) || strings.EqualFold(from.Hostname(), to.Hostname()) && from.Scheme == "http" && to.Scheme == "https" &&
		(port(from) == port(to) || port(from) == "80" && port(to) == "443")
}

// IsBelow reports whether u has the path of base in front of its own.
func IsBelow(u, base *url.URL) bool {
	return base.Path == "" || strings.HasPrefix(u.EscapedPath()+"/", base.EscapedPath()+"/") && !strings.Contains(u.Path+"/", "/../")
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
