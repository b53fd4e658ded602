package agenturl

import (
	"net/http"
	"testing"
)

// FuzzAddressParts parses addresses, formats them and parses them again.
func FuzzAddressParts(f *testing.F) {
	for _, text := range []string{"http://127.0.0.1:4646", "[::1]:4646", "unix:///a b", "a:1", "https://a/b%2Fc/", "http://[fe80::1%25eth0]:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		if a.Scheme == "" {
			a.Scheme = "http"
		}
		again, err := Parse(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %+v, and %q is %+v, %v", text, a, a.String(), again, err)
		}
		base := a.Base()
		if _, err := http.NewRequest(http.MethodGet, base.String()+"/v1/agent/members", nil); err != nil {
			t.Fatalf("%q makes %v", text, err)
		}
	})
}
