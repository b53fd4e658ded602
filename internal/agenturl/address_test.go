package agenturl

import (
	"net/http"
	"net/url"
	"testing"
	"time"
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

func TestKey(t *testing.T) {
	keys := map[string]bool{}
	for _, text := range []string{"http://a", "http://A:80", "HTTP://a:80/"} {
		address, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		keys[address.Key()] = true
	}
	if len(keys) != 1 {
		t.Error(keys)
	}
	for _, text := range []string{"https://a", "http://a:4646", "http://a/b", "unix:///a", "unix:///b"} {
		address, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if keys[address.Key()] {
			t.Error(text)
		}
		keys[address.Key()] = true
	}
}

func TestBlockingWait(t *testing.T) {
	for index, isBlocking := range map[string]bool{"": false, "0": false, "00": false, "-1": false, "+0": false, "x": false, "1": true, "007": true} {
		if BlockingWait(url.Values{"index": {index}}) > 0 != isBlocking {
			t.Error(index)
		}
	}
	if wait := BlockingWait(url.Values{"index": {"1"}, "wait": {"64s"}}); wait != 68*time.Second {
		t.Error(wait)
	}
}
