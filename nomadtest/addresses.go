package nomadtest

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// resolveSerf returns the host:port for an address of join.
//
// The address may have the form NAME/ADDRESS; the name is ignored. The default port is the agent's
// own.
func (a *Agent) resolveSerf(address string) (string, error) {
	if name, rest, ok := strings.Cut(address, "/"); ok {
		if name == "" {
			return "", errors.New("empty node name provided")
		}
		address = rest
	}
	hasPort := strings.Count(address, ":") == 1
	if strings.LastIndex(address, "[") == 0 {
		hasPort = strings.LastIndex(address, ":") > strings.LastIndex(address, "]")
	}
	if !hasPort {
		address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(a.serf))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", err
	}
	switch {
	case host == "localhost":
		host = "127.0.0.1"
	case net.ParseIP(host) == nil:
		return "", errors.New(noSuchHost(host))
	}
	return net.JoinHostPort(host, port), nil
}

// noSuchHost returns the message of a resolver for an unknown name.
//
// Names are never looked up. The message for an invalid name does not include a DNS server.
func noSuchHost(host string) string {
	if !domainName.MatchString(host) {
		return fmt.Sprintf("lookup %s: no such host", host)
	}
	return fmt.Sprintf("lookup %s on 192.0.2.53:53: no such host", host)
}

var domainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// multiError formats several errors as Nomad's agents do, one a line.
type multiError []string

func (e multiError) Error() string {
	plural := "s"
	if len(e) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d error%s occurred:\n\t* %s\n\n", len(e), plural, strings.Join(e, "\n\t* "))
}
