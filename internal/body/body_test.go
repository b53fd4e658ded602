package body

import (
	"net/http"
	"testing"
)

// FuzzHeaders gives the headers that a client acts on whatever a proxy might put there.
func FuzzHeaders(f *testing.F) {
	for _, value := range []string{"", "gzip, br", "application/json; charset=\"", "a/b; c"} {
		f.Add(value, value)
	}
	f.Fuzz(func(t *testing.T, kind, encoding string) {
		h := http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}}
		r, err := Decompress(h, http.NoBody)
		if (err == nil) != (r != nil) {
			t.Fatalf("%v %v", r, err)
		}
		_ = MediaType(h)
	})
}
