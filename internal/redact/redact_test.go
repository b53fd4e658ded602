package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRemove(t *testing.T) {
	secret := `p+s/s w&<"ö>d=`
	quoted, _ := json.Marshal(secret)
	for name, text := range map[string]string{
		"as it is":             secret,
		"upper case":           strings.ToUpper(secret),
		"quoted":               strconv.Quote(secret),
		"quoted in ASCII":      strconv.QuoteToASCII(secret),
		"JSON":                 string(quoted),
		"JSON in JSON":         strconv.Quote(string(quoted)),
		"query":                url.QueryEscape(secret),
		"query twice":          url.QueryEscape(url.QueryEscape(secret)),
		"lower-case escapes":   strings.ToLower(url.QueryEscape(secret)),
		"path":                 url.PathEscape(secret),
		"HTML":                 html.EscapeString(secret),
		"hexadecimal":          hex.EncodeToString([]byte(secret)),
		"base64":               base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 for URLs":      base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"twice on a long line": secret + " and " + secret,
	} {
		t.Run(name, func(t *testing.T) {
			text = "before " + text + " after"
			s := New("", secret, "x")
			assert.True(t, s.In(text))
			shown := s.Remove(text)
			assert.Contains(t, shown, Mark)
			assert.True(t, strings.HasPrefix(shown, "before ") && strings.HasSuffix(shown, " after"), shown)
			for _, part := range []string{"p+s", "ö", "P+S", "%2bs", "cCtzL3", "702b73"} {
				assert.NotContains(t, shown, part)
			}
		})
	}
	assert.Equal(t, "no secret", Secrets{}.Remove("no secret"))
	assert.False(t, New("").In("no secret"))
	assert.Equal(t, "a <redacted> b", New("e", "redacted").Remove("a redacted b"), "a mark is not searched for secrets")
}

func TestRemoveCut(t *testing.T) {
	s := New("6f5c7f8e-token")
	assert.Equal(t, "the token ", s.RemoveCut("the token 6F5c7f8"))
	assert.Equal(t, "the token 6f", s.RemoveCut("the token 6f"))
	assert.Equal(t, "", New("abcdef").RemoveCut("abcde"))
}

func TestLine(t *testing.T) {
	assert.Equal(t, "a; b", Line("2 errors occurred:\n\t* a\n\t* b\n\n", 100))
	assert.Equal(t, "one two three", Line(" one\ttwo\r\n\x1b\u200bthree\n", 100))
	assert.Equal(t, "12345 …", Line("1234567", 5))
	assert.Equal(t, "1234 …", Line("1234ö", 5))
}

func TestGossipKeys(t *testing.T) {
	for _, size := range []int{16, 24, 32} {
		key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xfb\xff\x75Key4", size)[:size]))
		assert.True(t, IsGossipKey(key))
		for _, form := range []string{key, strings.TrimRight(key, "="), strings.NewReplacer("+", "-", "/", "_").Replace(key)} {
			assert.Equal(t, "key <redacted>: no", GossipKeys("key "+form+": no"))
			assert.Equal(t, `Key=<redacted>`, GossipKeys("Key="+form))
		}
		assert.False(t, IsGossipKey(key+"\n"))
	}
	for _, text := range []string{"", "node", "short==", "not a key in sight", "gossip-encryption-keyring", strings.Repeat("a", 21)} {
		assert.False(t, IsGossipKey(text))
		assert.Equal(t, text, GossipKeys(text))
	}
}

func FuzzRemove(f *testing.F) {
	f.Add("secret", "a secret", true)
	f.Add("p\xff\n", "\"p\\xff\\n\"", false)
	f.Fuzz(func(t *testing.T, secret, text string, plant bool) {
		s := New(secret)
		if plant {
			text += secret
		}
		shown := s.Remove(strings.ToValidUTF8(text, "\uFFFD"))
		if secret != "" && !strings.Contains(Mark, secret) && strings.Contains(strings.ReplaceAll(shown, Mark, "\x00"), secret) {
			t.Fatalf("%q shows %q", shown, secret)
		}
	})
}
