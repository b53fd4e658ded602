package acceptance_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// matrixFault is one fault, which occurs when a client connects or when it sends a request.
type matrixFault struct {
	name      string
	connect   func(*faulty)
	request   func(*faulty)
	want      func(*matrixCall) string
	lasts     bool // whether the fault cannot be removed while the client exists
	redirects bool
	scheme    string
	opts      []nomad.Option
}

// always expects the same outcome from all calls.
func always(want string) func(*matrixCall) string { return func(*matrixCall) string { return want } }

// byKind expects one outcome per kind of call, in the order of the kinds.
func byKind(wants ...string) func(*matrixCall) string {
	return func(c *matrixCall) string { return wants[c.kind] }
}

func zipped(text string) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// matrixFaults returns all faults of the matrix.
func matrixFaults(t *testing.T) []*matrixFault {
	const (
		invalid  = "ErrInvalidResponse"
		large    = "ErrResponseTooLarge"
		redirect = "ErrRedirect"
		ok       = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		chunked  = ok + "Transfer-Encoding: chunked\r\n\r\n"
	)
	var faults []*matrixFault
	add := func(name string, play func(*faulty), want func(*matrixCall) string) *matrixFault {
		f := &matrixFault{name: name, request: play, want: want}
		faults = append(faults, f)
		return f
	}
	raw := func(name, text string, want func(*matrixCall) string) {
		add(name, func(c *faulty) { c.say(text) }, want)
	}
	content := func(name, body string, want func(*matrixCall) string) {
		raw(name, whole("200 OK", "application/json", body), want)
	}
	status := func(status, body, want string) {
		name := "status " + status + " " + body
		raw(strings.Join(strings.FieldsFunc(name[:min(len(name), 80)], func(r rune) bool { return r <= ' ' }), " "), whole(status, "text/plain", body), always(want))
	}

	add("none", func(c *faulty) { c.say(whole("200 OK", "application/json", c.valid)) }, always("ok"))

	// The connection.
	add("closed before the response", func(*faulty) {}, always("lost"))
	add("reset before the response", func(c *faulty) { c.reset() }, always("lost"))
	add("closed in the headers", func(c *faulty) { c.say("HTTP/1.1 200 OK\r\nContent-Ty") }, always("lost"))
	add("closed in the status line", func(c *faulty) { c.say("HTTP/1.1 2") }, always("lost"))
	add("reset in the body", func(c *faulty) {
		c.say(ok + "Content-Length: 1000\r\n\r\n" + `{"`)
		time.Sleep(20 * time.Millisecond)
		c.reset()
	}, always(invalid))
	at := func(name string, connect func(*faulty), want func(*matrixCall) string) *matrixFault {
		f := add(name, nil, want)
		f.connect = connect
		return f
	}
	at("closed when accepted", func(*faulty) {}, always("lost"))
	at("reset when accepted", func(c *faulty) { c.reset() }, always("lost"))
	at("a response before the request", func(c *faulty) {
		c.say(whole("200 OK", "application/json", "garbage"))
		readRequest(c)
	}, byKind(invalid, invalid, invalid, "ok"))
	add("no response", func(c *faulty) { c.hang() }, always("late"))
	add("headers that drip", func(c *faulty) { c.say(ok); c.forever("X: y\r\n", 10*time.Millisecond) }, always("late"))
	add("no body", func(c *faulty) { c.say(ok + "Content-Length: 1000\r\n\r\n"); c.hang() }, always("late"))
	add("no chunk", func(c *faulty) { c.say(chunked); c.hang() }, always("late"))
	add("a body that drips", func(c *faulty) { c.say(chunked); c.forever("1\r\n \r\n", 5*time.Millisecond) }, always("late"))
	add("a gzip body that stops", func(c *faulty) {
		c.say(ok+"Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n", zipped(c.valid)[:12])
		c.hang()
	}, always("late"))
	add("an interim response, then nothing", func(c *faulty) { c.say("HTTP/1.1 100 Continue\r\n\r\n"); c.hang() }, always("late"))
	add("endless interim responses", func(c *faulty) { c.forever(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), 0) }, always(large))
	add("a switch of protocols", func(c *faulty) {
		c.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		c.hang()
	}, always(invalid))
	add("endless headers", func(c *faulty) { c.say(ok); c.forever("X: "+strings.Repeat("y", 9000)+"\r\n", 0) }, always(large))
	add("an endless line", func(c *faulty) { c.forever(strings.Repeat("y", 9000), 0) }, always(large))

	// The framing.
	raw("another protocol", "SSH-2.0-OpenSSH_9.6\r\n", always(invalid))
	raw("HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00", always(invalid))
	raw("bytes without a newline", "hunter2-token", always(invalid))
	raw("a TLS alert", "\x15\x03\x01\x00\x02\x02\x16\r\n", always(invalid))
	raw("no status", "HTTP/1.1 OK\r\n\r\n", always(invalid))
	raw("a status of 0", "HTTP/1.1 000 No\r\n\r\n", always(invalid))
	raw("a header line without a colon", ok+"hunter2-token\r\n\r\n", always(invalid))
	raw("a negative length", ok+"Content-Length: -1\r\n\r\n{}", always(invalid))
	raw("two lengths", ok+"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", always(invalid))
	raw("a length that is a secret", ok+"Content-Length: hunter2-token\r\n\r\n{}", always(invalid))
	raw("an unknown transfer encoding", ok+"Transfer-Encoding: hunter2-token\r\n\r\n{}", always(invalid))
	raw("a bad chunk", chunked+"hunter2-token\r\n{}\r\n", always(invalid))
	raw("a chunk of a wrong length", chunked+"1\r\n{}\r\n0\r\n\r\n", always(invalid))
	raw("a huge chunk", chunked+"ffffffffffffffff\r\n{", always(invalid))
	add("no last chunk", func(c *faulty) { c.say(chunked, "2\r\n{}\r\n") }, always(invalid))
	add("cut short", func(c *faulty) { c.say(ok+"Content-Length: 1000\r\n\r\n", c.valid) }, always(invalid))

	// The length.
	add("a length of a terabyte", func(c *faulty) {
		c.say(ok + "Content-Length: 1099511627776\r\n\r\n")
		c.forever(strings.Repeat(" ", 64<<10), 0)
	}, byKind(large, large, invalid, "late"))
	add("an endless body", func(c *faulty) {
		c.say(chunked)
		c.forever("10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n", 0)
	}, byKind(large, large, invalid, "late"))
	add("a body without length or end", func(c *faulty) {
		c.say(ok + "Connection: close\r\n\r\n")
		c.forever(strings.Repeat("[", 64<<10), 0)
	}, byKind(large, large, invalid, "late"))
	bomb := zipped(strings.Repeat(" ", 64<<20))
	add("a decompression bomb", func(c *faulty) {
		c.say(ok+"Content-Encoding: gzip\r\nContent-Length: ", strconv.Itoa(len(bomb)), "\r\n\r\n", bomb)
	}, byKind(large, large, invalid, "ok"))

	// The content.
	content("empty", "", byKind(invalid, "ok", "ErrInvalidToken ErrPermissionDenied", invalid))
	content("null", "null", byKind(invalid, "ok", invalid, "ok"))
	content("another shape", `"hunter2-token"`, byKind(invalid, invalid, invalid, "ok"))
	content("a number", `17`, byKind(invalid, invalid, invalid, "ok"))
	content("cut in the JSON", `{"Members":[{"Name":"hunter2-token`, byKind(invalid, invalid, invalid, "ok"))
	content("deep", strings.Repeat(`{"x":`, 100_000), byKind(invalid, invalid, invalid, "ok"))
	content("deep lists", strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000), byKind(invalid, invalid, invalid, "ok"))
	content("not JSON", "hunter2-token is not JSON", byKind(invalid, invalid, invalid, "ok"))
	content("many empty objects", `{"Members":[`+strings.Repeat("{},", 100_000)+`{}]}`, byKind(invalid, invalid, "ok", "ok")) // a frame without known keys is ignored
	content("bytes that are not UTF-8", "\xff\xfe\xfd", byKind(invalid, invalid, invalid, "ok"))
	add("trailing data", func(c *faulty) { c.say(whole("200 OK", "application/json", c.valid+"hunter2-token")) },
		byKind(invalid, invalid, invalid, "ok"))
	raw("a web page", whole("200 OK", "text/html", "<html>hunter2-token</html>"), always(invalid))
	raw("a partial response", whole("206 Partial Content", "application/json", `{}`), always(invalid))
	raw("no content", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", byKind(invalid, "ok", invalid, invalid))
	raw("not gzip", whole("200 OK", "application/json", "hunter2-token", "Content-Encoding: gzip"), always(invalid))
	add("gzip cut short", func(c *faulty) {
		packed := zipped(c.valid + "    ")
		c.say(whole("200 OK", "application/json", packed[:len(packed)-6], "Content-Encoding: gzip"))
	}, always(invalid))
	add("gzip with a wrong checksum", func(c *faulty) {
		packed := []byte(zipped(c.valid))
		packed[len(packed)-6] ^= 1
		c.say(whole("200 OK", "application/json", string(packed), "Content-Encoding: gzip"))
	}, always(invalid))
	add("an unknown compression", func(c *faulty) {
		c.say(whole("200 OK", "application/json", c.valid, "Content-Encoding: hunter2-token"))
	}, always(invalid))

	// Error responses of agents and proxies.
	status("400 Bad Request", "missing hunter2-token", "ErrInvalidArgument")
	status("401 Unauthorized", "who is hunter2-token?", "ErrPermissionDenied")
	status("403 Forbidden", "Permission denied", "ErrPermissionDenied")
	status("403 Forbidden", "ACL token not found: hunter2-token", "ErrInvalidToken ErrPermissionDenied")
	status("404 Not Found", "", "ErrUnsupported")
	status("404 Not Found", "no such hunter2-token", "ErrNotFound")
	status("405 Method Not Allowed", "no", "status")
	status("429 Too Many Requests", "hunter2-token", "ErrTooManyRequests")
	status("500 Internal Server Error", "a fault: hunter2-token, "+matrixKey, "status")
	status("500 Internal Server Error", "No cluster leader", "ErrNoLeader")
	status("500 Internal Server Error", "rpc error: Permission denied", "ErrPermissionDenied")
	status("500 Internal Server Error", strings.Repeat("long\n\x00", 100_000), "status")
	status("502 Bad Gateway", "<html>hunter2-token</html>", "status")
	status("503 Service Unavailable", "hunter2-token", "status")
	status("504 Gateway Timeout", "", "status")
	status("999 Hunter2-token", "", "status")
	status("304 Not Modified", "", "status")
	add("an endless error body", func(c *faulty) {
		c.say("HTTP/1.1 500 No\r\nConnection: close\r\n\r\n")
		c.forever(strings.Repeat("hunter2-token ", 5000), 0)
	}, always("status"))
	add("a truncated error body", func(c *faulty) { c.say("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhunter2-tok") }, always("ErrPermissionDenied"))

	// Redirects.
	to := func(status, location string, want func(*matrixCall) string) {
		raw("a redirect "+status+" to "+location, whole(status+" Elsewhere", "text/plain", "", "Location: "+location), want)
		faults[len(faults)-1].redirects = true
	}
	for _, code := range []string{"301", "302", "303", "307", "308"} {
		to(code, "http://hunter2-token.invalid/", always(redirect))
	}
	to("302", "/again", always(redirect))
	to("307", "/again", always(redirect))
	to("307", "http://[::hunter2-token", always(redirect))
	to("308", "ftp://hunter2-token/", always(redirect))
	raw("a redirect without a Location", whole("302 Found", "text/plain", ""), always("status"))

	// TLS.
	pki := testkit.NewPKI(t)
	secure := func(name string, connect func(*faulty), want func(*matrixCall) string) *matrixFault {
		f := at(name, connect, want)
		f.scheme, f.lasts = "https://", true
		f.opts = []nomad.Option{nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, CertPEM: pki.CertPEM, KeyPEM: nomad.NewSecret(string(pki.KeyPEM)), ServerName: "server.global.nomad"})}
		return f
	}
	secured := func(config *tls.Config, then func(*faulty)) func(*faulty) {
		return func(c *faulty) {
			over := tls.Server(c.Conn, config)
			if over.Handshake() == nil {
				then(&faulty{over, c.valid})
				over.Close()
			}
		}
	}
	known := &tls.Config{Certificates: []tls.Certificate{pki.Pair}}
	other := testkit.NewPKI(t)
	secure("no fault with TLS", secured(known, func(c *faulty) {
		readRequest(c)
		c.say(whole("200 OK", "application/json", c.valid))
	}), always("ok"))
	secure("a certificate of another authority", secured(&tls.Config{Certificates: []tls.Certificate{other.Pair}}, func(*faulty) {}), always("other"))
	wrongName := secure("a certificate of another name", secured(known, func(*faulty) {}), always("other"))
	wrongName.opts = []nomad.Option{nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM})}
	secure("a client certificate that is refused", secured(&tls.Config{Certificates: []tls.Certificate{pki.Pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: other.Pool}, func(*faulty) {}), always("lost"))
	secure("an old version", secured(&tls.Config{Certificates: []tls.Certificate{pki.Pair}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, func(*faulty) {}), always("lost"))
	secure("no TLS", func(c *faulty) { c.say("HTTP/1.1 400 Bad Request\r\n\r\n") }, always("other"))
	secure("closed in the handshake", func(*faulty) {}, always("lost"))
	secure("reset in the handshake", func(c *faulty) { c.reset() }, always("lost"))
	secure("no handshake", func(c *faulty) { c.hang() }, always("late"))
	secure("closed after the handshake", secured(known, func(c *faulty) {}), always("lost"))
	secure("no response over TLS", secured(known, func(c *faulty) { c.hang() }), always("late"))
	return faults
}
