package nomad

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzErrorText turns arbitrary error messages of agents into errors.
func FuzzErrorText(f *testing.F) {
	client, err := NewClient(WithToken("hunter2-token"), WithBasicAuth("ops", `hunter2-"pass"`), WithHeader("X-Session", "hunter2-header"))
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", "Permission denied", "RPC Error:: 403,Permission denied", "RPC Error:: 99999999999,x",
		"1 error occurred:\n\t* a\n\n", "hunter2-token", `a "hunter2-\"pass\"" b`, "hunter2-\x00token", "\xffhunter2-header\xff", "…", "unknown node", "acl token expired"} {
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
				t.Fatalf("%q contains %q", cleaned, secret)
			}
		}
		kinds := client.classify(r, status, text, false)
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
