package nomadtest

import (
	"compress/flate"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// compressed returns a writer that compresses if the request accepts it, and a function that
// finishes the response.
//
// It sets Vary: Accept-Encoding, as agents do.
func compressed(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, func()) {
	w.Header().Add("Vary", "Accept-Encoding")
	for encoding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		var c flushCloser
		switch encoding = strings.TrimSpace(encoding); encoding {
		case "gzip":
			c = gzip.NewWriter(w)
		case "deflate":
			c, _ = flate.NewWriter(w, flate.DefaultCompression)
		default:
			continue
		}
		w.Header().Set("Content-Encoding", encoding)
		return &compressor{w, c}, func() { c.Close() }
	}
	return w, func() {}
}

type flushCloser interface {
	io.WriteCloser
	Flush() error
}

type compressor struct {
	http.ResponseWriter
	c flushCloser
}

func (c *compressor) WriteHeader(status int) {
	c.Header().Del("Content-Length")
	c.ResponseWriter.WriteHeader(status)
}

func (c *compressor) Write(p []byte) (int, error) {
	c.Header().Del("Content-Length")
	return c.c.Write(p)
}

// Flush sends the data written so far.
func (c *compressor) Flush() {
	c.c.Flush()
	http.NewResponseController(c.ResponseWriter).Flush()
}

func (c *compressor) Unwrap() http.ResponseWriter { return c.ResponseWriter }
