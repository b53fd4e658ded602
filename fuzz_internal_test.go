package nomad

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzErrorText gives what agents say about failures to what makes errors of it.
func FuzzErrorText(f *testing.F) {
	client, err := NewClient(WithToken("hunter2-token"), WithBasicAuth("ops", `hunter2-"pass"`), WithHeader("X-Session", "hunter2-header"))
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range append(append([]string{"", "Permission denied", "RPC Error:: 403,Permission denied", "RPC Error:: 99999999999,x",
		"1 error occurred:\n\t* a\n\n", "hunter2-token", `a "hunter2-\"pass\"" b`, "hunter2-\x00token", "\xffhunter2-header\xff", "…"},
		invalidTokenTexts...), notFoundTexts...) {
		f.Add(500, text, 0)
		f.Add(403, text, 3)
	}
	f.Fuzz(func(t *testing.T, status int, text string, which int) {
		r := endpoints[uint(which)%uint(len(endpoints))].newRequest(nil)
		cleaned := client.clean(r, text)
		if !utf8.ValidString(cleaned) || len(cleaned) > maxErrorText+len(" …") {
			t.Fatalf("%q", cleaned)
		}
		for _, c := range cleaned {
			if !unicode.IsPrint(c) {
				t.Fatalf("%q", cleaned)
			}
		}
		for _, secret := range []string{"hunter2-token", "hunter2-header", `hunter2-"pass"`} {
			if strings.Contains(cleaned, secret) {
				t.Fatalf("%q shows %q", cleaned, secret)
			}
		}
		kinds := classify(r.endpoint, status, text)
		if status < 400 && len(kinds) > 0 && !strings.Contains(text, "RPC Error:: ") {
			t.Fatalf("status %d means %v", status, kinds)
		}
		if slices.Contains(kinds, ErrInvalidToken) && !slices.Contains(kinds, ErrPermissionDenied) {
			t.Fatalf("%v", kinds)
		}
		if e := client.apiError(r, status, text, kinds...); strings.ContainsAny(e.Error(), "\n\x00") {
			t.Fatalf("%q", e.Error())
		}
	})
}

// FuzzHeaders gives the headers that a client acts on whatever a proxy might put there.
func FuzzHeaders(f *testing.F) {
	for _, value := range []string{"", "gzip, br", "application/json; charset=\"", "a/b; c"} {
		f.Add(value, value)
	}
	f.Fuzz(func(t *testing.T, kind, encoding string) {
		h := http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}}
		body, err := decompress(&http.Response{Header: h, Body: http.NoBody})
		if (err == nil) != (body != nil) {
			t.Fatalf("%v %v", body, err)
		}
		_ = mediaType(h)
	})
}

// FuzzAddressParts takes addresses apart and puts them together again.
func FuzzAddressParts(f *testing.F) {
	for _, text := range []string{"http://127.0.0.1:4646", "[::1]:4646", "unix:///a b", "a:1", "https://a/b%2Fc/", "http://[fe80::1%25eth0]:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		if a.scheme == "" {
			a.scheme = "http"
		}
		again, err := parseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %+v, and %q is %+v, %v", text, a, a.String(), again, err)
		}
		base := a.base()
		if _, err := http.NewRequest(http.MethodGet, base.String()+"/v1/agent/members", nil); err != nil {
			t.Fatalf("%q makes %v", text, err)
		}
	})
}
