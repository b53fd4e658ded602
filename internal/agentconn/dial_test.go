package agentconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDialErrors checks the errors of connections that fail.
func TestDialErrors(t *testing.T) {
	dialFails := func(err error) func(*fake, *Config) {
		return func(f *fake, _ *Config) { f.onDial = func(context.Context) error { return err } }
	}
	withTLS := func(change func(server, client *tls.Config)) func(*fake, *Config) {
		return func(f *fake, config *Config) {
			f.tls = serverTLS()
			config.TLS = func(host string, _ bool) *tls.Config {
				client := &tls.Config{ServerName: host, RootCAs: authority.pool}
				change(f.tls, client)
				return client
			}
		}
	}
	peerDoes := func(do func(*peer)) func(*fake, *Config) {
		return func(f *fake, _ *Config) { f.onConn = do }
	}
	proxyDoes := func(proxy string, do func(*peer)) func(*fake, *Config) {
		return func(f *fake, config *Config) {
			scheme, name, secure := strings.Cut(proxy, "://")
			if !secure {
				scheme, name = "http", proxy
			}
			config.Transport.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: name + ":3128"})
			f.tls, f.onConn = serverTLS(), do
		}
	}
	// A proxy reads CONNECT and sends a response.
	proxySays := func(raw string) func(*fake, *Config) {
		return proxyDoes("proxy.example", func(c *peer) {
			http.ReadRequest(bufio.NewReader(c))
			c.write(raw)
		})
	}
	noTLS := func(c *peer) {
		c.Read(make([]byte, 4096))
		c.write("HTTP/1.1 400 Bad Request\r\n\r\n")
	}
	status := func(line string) string { return "HTTP/1.1 " + line + "\r\nContent-Length: 0\r\n\r\n" }
	for name, test := range map[string]struct {
		scheme    string
		fault     func(*fake, *Config)
		permanent bool
		after     time.Duration
		is        error // wrapped error
		as        any   // type of a wrapped error
	}{
		"the kernel refuses the connection":          {"http", dialFails(syscall.ECONNREFUSED), false, 0, syscall.ECONNREFUSED, nil},
		"the host does not exist":                    {"http", dialFails(&net.DNSError{IsNotFound: true}), false, 0, nil, new(*net.DNSError)},
		"the network resets the connection":          {"https", dialFails(syscall.ECONNRESET), false, 0, syscall.ECONNRESET, nil},
		"the dial hangs":                             {"http", func(f *fake, _ *Config) { f.onDial = hangingDial }, false, dialTime, nil, new(timeoutError)},
		"the TLS handshake hangs":                    {"https", peerDoes(func(c *peer) { c.hang() }), false, dialTime, nil, new(timeoutError)},
		"the certificate is from another authority":  {"https", withTLS(func(_, c *tls.Config) { c.RootCAs = x509.NewCertPool() }), true, 0, nil, new(x509.UnknownAuthorityError)},
		"the certificate is for another host":        {"https", withTLS(func(_, c *tls.Config) { c.ServerName = "other.example" }), true, 0, nil, new(x509.HostnameError)},
		"the agent wants a newer version of TLS":     {"https", withTLS(func(s, c *tls.Config) { s.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }), true, 0, nil, new(*net.OpError)},
		"the agent wants a certificate, TLS 1.2":     {"https", withTLS(func(s, c *tls.Config) { s.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }), true, 0, nil, new(*net.OpError)},
		"the TLS configuration allows no version":    {"https", withTLS(func(_, c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }), true, 0, nil, nil},
		"the TLS configuration names no host":        {"https", withTLS(func(_, c *tls.Config) { c.ServerName = "" }), true, 0, nil, nil},
		"the agent speaks HTTP":                      {"https", peerDoes(noTLS), true, 0, http.ErrSchemeMismatch, nil},
		"the peer speaks something else":             {"https", peerDoes(func(c *peer) { c.Read(make([]byte, 4096)); c.write("SSH-2.0-OpenSSH\r\n") }), true, 0, nil, new(tls.RecordHeaderError)},
		"the proxy wants a password":                 {"https", proxySays(status("407 Proxy Authentication Required")), true, 0, nil, new(*ProxyError)},
		"the proxy forbids it":                       {"https", proxySays(status("403 Forbidden")), true, 0, nil, new(*ProxyError)},
		"the proxy does not reach the agent":         {"https", proxySays(status("502 Bad Gateway")), false, 0, nil, new(*ProxyError)},
		"the proxy waited for the agent":             {"https", proxySays(status("504 Gateway Timeout")), false, 0, nil, new(*ProxyError)},
		"the proxy says 429":                         {"https", proxySays(status("429 Too Many Requests")), false, 0, nil, new(*ProxyError)},
		"the proxy says 204":                         {"https", proxySays("HTTP/1.1 204 No Content\r\n\r\n"), true, 0, nil, new(*ProxyError)},
		"the proxy closes the connection":            {"https", proxySays(""), false, 0, nil, nil},
		"the proxy closes within its response":       {"https", proxySays("HTTP/1.1 20"), false, 0, nil, nil},
		"the proxy hangs":                            {"https", proxyDoes("proxy.example", func(c *peer) { c.hang() }), false, dialTime, nil, new(timeoutError)},
		"the agent behind a proxy has a bad name":    {"https", behindProxy("other.example"), true, 0, nil, new(x509.HostnameError)},
		"the TLS handshake behind a proxy hangs":     {"https", proxyDoes("proxy.example", func(c *peer) { connected(c); c.hang() }), false, dialTime, nil, new(timeoutError)},
		"the proxy speaks no TLS":                    {"https", proxyDoes("https://proxy.example", noTLS), true, 0, http.ErrSchemeMismatch, nil},
		"the proxy's certificate is for another one": {"https", proxyDoes("https://other.example", func(c *peer) { c.secure(c) }), true, 0, nil, new(x509.HostnameError)},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			config := f.config(64)
			test.fault(f, &config)
			p := f.poolWith(config)
			var err error
			took := timed(func() { _, _, err = request{scheme: test.scheme}.do(t.Context(), p) })
			var dial *DialError
			if assert.ErrorAs(t, err, &dial, name) {
				assert.Equal(t, test.permanent, dial.Permanent, "%s: %v", name, err)
				assert.NotEmpty(t, err.Error(), name)
			}
			if test.is != nil {
				assert.ErrorIs(t, err, test.is, name)
			}
			if test.as != nil {
				assert.ErrorAs(t, err, test.as, name)
			}
			assert.Equal(t, test.after, took, name)
			_, _, total, _ := f.counts()
			assert.LessOrEqual(t, total, 1, name)
			settle()
			_, _, agents := p.sizes()
			if agents > 0 {
				assert.False(t, p.state(t).isFull(), "%s: the agent counts as full", name)
			}
			closed(t, p, f)
		})
	}
}

// hangingDial never connects.
func hangingDial(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// proxyAt returns the Proxy of a transport.
func proxyAt(scheme string) func(*http.Request) (*url.URL, error) {
	return http.ProxyURL(&url.URL{Scheme: scheme, Host: "proxy.example:3128"})
}

// connected accepts a CONNECT request to the agent.
func connected(c *peer) bool {
	req, err := http.ReadRequest(bufio.NewReader(c.stream()))
	return err == nil && req.Method == http.MethodConnect && req.Host == host && c.write("HTTP/1.1 200 OK\r\n\r\n")
}

// behindProxy puts a proxy in front of an agent with TLS. The client expects a certificate for name.
func behindProxy(name string) func(*fake, *Config) {
	return func(f *fake, config *Config) {
		f.tls = serverTLS()
		config.Transport.Proxy = proxyAt("http")
		config.TLS = func(host string, proxy bool) *tls.Config {
			if !proxy {
				host = name
			}
			return &tls.Config{ServerName: host, RootCAs: authority.pool}
		}
		f.onConn = func(c *peer) {
			if connected(c) {
				c.serve()
			}
		}
	}
}

func TestDialTimeout(t *testing.T) {
	inBubble(t, "a dial that hangs ends with an error that net.Error knows as a timeout", func(t *testing.T) {
		f := newFake(t)
		f.onDial = hangingDial
		p := f.newPool(64)
		_, _, err := request{}.do(t.Context(), p)
		var timeout net.Error
		if assert.ErrorAs(t, err, &timeout) {
			assert.True(t, timeout.Timeout())
		}
		closed(t, p, f)
	})
}

// TestDialErrorsAreShared checks which waiting requests get the errors of dials.
func TestDialErrorsAreShared(t *testing.T) {
	inBubble(t, "five requests and four dials that fail: each error goes to one request, and the fifth succeeds", func(t *testing.T) {
		f := newFake(t)
		f.latency = ms
		var mu sync.Mutex
		dials := 0
		f.onDial = func(context.Context) error {
			mu.Lock()
			dials++
			n := dials
			mu.Unlock()
			time.Sleep(time.Duration(n) * ms)
			if n < 5 {
				return fmt.Errorf("dial %d", n)
			}
			return nil
		}
		p := f.newPool(64)
		failed := map[string]int{}
		crowd(5, func(i int) {
			time.Sleep(time.Duration(i) * time.Microsecond)
			if _, _, err := (request{}).do(t.Context(), p); err != nil {
				var dial *DialError
				assert.ErrorAs(t, err, &dial)
				mu.Lock()
				failed[err.Error()]++
				mu.Unlock()
				assert.Contains(t, err.Error(), fmt.Sprintf("dial %d", i+1), "the request that waited longest gets the first error")
			}
		})
		assert.Len(t, failed, 4)
		assert.Equal(t, 5, dials)
		closed(t, p, f)
	})
}

// TestClientCertificate has an agent refuse the client after the handshake, as TLS 1.3 does.
func TestClientCertificate(t *testing.T) {
	inBubble(t, "an agent that wants a certificate, TLS 1.3: the error says so, and the agent is not taken to be full", func(t *testing.T) {
		f := newFake(t)
		f.tls = serverTLS()
		f.tls.ClientAuth = tls.RequireAnyClientCert
		p := f.newPool(64)
		_, _, err := request{scheme: "https"}.do(t.Context(), p)
		assert.ErrorContains(t, err, "certificate required")
		var lost *LostError
		assert.False(t, errors.As(err, &lost), "%v", err)
		assert.False(t, p.state(t).isFull())
		closed(t, p, f)
	})
}

// countingCache is a session cache that counts the handshakes that use it.
type countingCache struct {
	tls.ClientSessionCache
	handshakes atomic.Int32
}

func (c *countingCache) Get(key string) (*tls.ClientSessionState, bool) {
	c.handshakes.Add(1)
	return c.ClientSessionCache.Get(key)
}

// TestTLSConfigurations checks that each handshake has a TLS configuration of its own, which can keep what it used.
func TestTLSConfigurations(t *testing.T) {
	for name, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"an agent": nil, "an agent behind a proxy": proxyAt("http"),
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.tls = serverTLS()
			if proxy != nil {
				f.onConn = func(c *peer) {
					if connected(c) {
						c.serve()
					}
				}
			}
			config := f.config(64)
			config.Transport.Proxy = proxy
			var mu sync.Mutex
			var caches []*countingCache
			config.TLS = func(host string, _ bool) *tls.Config {
				cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				mu.Lock()
				caches = append(caches, cache)
				mu.Unlock()
				return &tls.Config{ServerName: host, RootCAs: authority.pool, ClientSessionCache: cache}
			}
			p := f.poolWith(config)
			for range 3 {
				request{scheme: "https", mark: Fresh}.check(t, p)
			}
			_, _, total, _ := f.counts()
			assert.Equal(t, 3, total)
			handshakes := 0
			for _, cache := range caches {
				n := int(cache.handshakes.Load())
				assert.LessOrEqual(t, n, 1)
				handshakes += n
			}
			assert.GreaterOrEqual(t, handshakes, total)
			closed(t, p, f)
		})
	}
}

// TestAddresses checks the dialed addresses.
func TestAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		url, socket   string
		network, addr string
	}{
		"a host and a port":              {"http://agent.example:4646/", "", "tcp", "agent.example:4646"},
		"a host without a port":          {"http://agent.example/", "", "tcp", "agent.example:80"},
		"a host without a port, TLS":     {"https://agent.example/", "", "tcp", "agent.example:443"},
		"a host in capital letters":      {"http://AGENT.example:4646/", "", "tcp", "agent.example:4646"},
		"an IPv6 address":                {"http://[::1]:4646/", "", "tcp", "[::1]:4646"},
		"an IPv6 address without a port": {"http://[::1]/", "", "tcp", "[::1]:80"},
		"a socket, whatever the host is": {"http://agent.example:4646/", "/run/agent.sock", "unix", "/run/agent.sock"},
		"a socket with TLS":              {"https://agent.example/", "/run/agent.sock", "unix", "/run/agent.sock"},
		"an unknown scheme":              {"ftp://agent.example/", "", "", ""},
		"no host":                        {"http:///v1/x", "", "", ""},
		"a port without a host":          {"http://:4646/", "", "", ""},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			var network, addr string
			f.dialed = func(n, a string) { network, addr = n, a }
			config := f.config(64)
			config.Socket = test.socket
			config.Transport.Proxy = func(req *http.Request) (*url.URL, error) {
				assert.Empty(t, test.socket, "%s: the proxy function was called for a socket", name)
				return nil, nil
			}
			if strings.HasPrefix(test.url, "https") {
				f.tls = serverTLS()
			}
			p := f.poolWith(config)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url, nil)
			require.NoError(t, err, name)
			res, err := p.RoundTrip(req)
			if test.addr == "" {
				assert.Error(t, err, name)
			} else if assert.NoError(t, err, name) {
				assert.Same(t, req, res.Request, name)
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			assert.Equal(t, test.network, network, name)
			assert.Equal(t, test.addr, addr, name)
			closed(t, p, f)
		})
	}
}

// TestProxies sends requests through proxies.
func TestProxies(t *testing.T) {
	for name, test := range map[string]struct {
		request request
		proxy   *url.URL
		onConn  func(*peer)
	}{
		"an agent with TLS behind a proxy": {
			request{scheme: "https"}, &url.URL{Scheme: "http", Host: "proxy.example:3128"},
			func(c *peer) {
				if connected(c) {
					c.serve()
				}
			}},
		"an agent with TLS behind a proxy with TLS": {
			request{scheme: "https"}, &url.URL{Scheme: "https", Host: "proxy.example:3128"},
			func(c *peer) {
				if c.secure(c) && connected(c) && c.secure(c.secured) {
					c.serve()
				}
			}},
		"an agent behind a proxy, without CONNECT": {
			request{}, &url.URL{Scheme: "http", Host: "proxy.example:3128"},
			func(c *peer) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				if assert.NoError(c.agent.t, err) {
					assert.Equal(c.agent.t, "http://"+host+"/", req.RequestURI)
					c.ok(req)
				}
			}},
		"an agent behind a SOCKS proxy": {
			request{}, &url.URL{Scheme: "socks5", Host: "proxy.example:1080"},
			func(c *peer) {
				if socks(c) {
					c.serve()
				}
			}},
		"an agent with TLS behind a SOCKS proxy": {
			request{scheme: "https"}, &url.URL{Scheme: "socks5", Host: "proxy.example:1080"},
			func(c *peer) {
				if socks(c) && c.secure(c) {
					c.serve()
				}
			}},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.onConn = test.onConn
			if test.request.scheme == "https" {
				f.tls = serverTLS()
			}
			config := f.config(64)
			proxied := ""
			config.Transport.Proxy = func(req *http.Request) (*url.URL, error) {
				proxied = req.URL.Host
				return test.proxy, nil
			}
			f.dialed = func(_, addr string) { assert.Equal(t, test.proxy.Host, addr, name) }
			proxies := map[bool]string{}
			config.TLS = func(host string, proxy bool) *tls.Config {
				proxies[proxy] = host
				return &tls.Config{ServerName: host, RootCAs: authority.pool}
			}
			p := f.poolWith(config)
			for range 3 {
				test.request.check(t, p, name)
			}
			assert.Equal(t, host, proxied, "%s: the proxy function gets the host and port, for NO_PROXY", name)
			assert.Equal(t, "agent.example", proxies[false], name)
			if test.proxy.Scheme == "https" {
				assert.Equal(t, "proxy.example", proxies[true], name)
			} else {
				assert.NotContains(t, proxies, true, name)
			}
			closed(t, p, f)
		})
	}

	inBubble(t, "a full agent behind a SOCKS proxy: none of 20 requesters fails", func(t *testing.T) {
		before := logged.String()
		f := newFake(t)
		f.think = after(5 * ms)
		room := make(chan struct{}, 4)
		f.onConn = func(c *peer) {
			if !socks(c) {
				return
			}
			select {
			case room <- struct{}{}:
				c.serve()
				<-room
			default:
				c.write(tooManyRequests)
			}
		}
		config := f.config(64)
		config.Transport.Proxy = http.ProxyURL(&url.URL{Scheme: "socks5", Host: "proxy.example:1080"})
		p := f.poolWith(config)
		crowd(20, func(int) {
			for range 5 {
				request{}.check(t, p)
			}
		})
		assert.Equal(t, before, logged.String(), "net/http wrote to the log")
		closed(t, p, f)
	})
}

// socks performs the handshake of a SOCKS proxy without a password.
func socks(c *peer) bool {
	hello := make([]byte, 3)
	if _, err := io.ReadFull(c, hello); err != nil {
		return false
	}
	c.write("\x05\x00")
	head := make([]byte, 5)
	if _, err := io.ReadFull(c, head); err != nil {
		return false
	}
	if _, err := io.ReadFull(c, make([]byte, int(head[4])+2)); err != nil {
		return false
	}
	return c.write("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
}
