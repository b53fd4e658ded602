package redact

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
			shown := s.Remove(text)
			assert.Contains(t, shown, Mark)
			assert.True(t, strings.HasPrefix(shown, "before ") && strings.HasSuffix(shown, " after"), shown)
			for _, part := range []string{"p+s", "ö", "P+S", "%2bs", "cCtzL3", "702b73"} {
				assert.NotContains(t, shown, part)
			}
		})
	}
	assert.Equal(t, "no secret", Secrets{}.Remove("no secret"))
	assert.Equal(t, "no secret", New("").Remove("no secret"))
	assert.Equal(t, "a <redacted> b", New("e", "redacted").Remove("a redacted b"), "a mark is not searched for secrets")
}

// TestRemoveEncoded searches the result for parts of the token: plain, in base64 and in hexadecimal.
func TestRemoveEncoded(t *testing.T) {
	const token = "6f5c7f8e-Ab4d-b2c1-9d0e-a1b2c3d4e5f6"
	inJSON := func(text string) string {
		quoted, _ := json.Marshal(text)
		return string(quoted)
	}
	encode := base64.StdEncoding.EncodeToString
	pieces := func(text, between string) string { return text[:13] + between + text[13:26] + between + text[26:] }
	printable := func(text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, "=%02X", text[i])
			if i%20 == 19 {
				b.WriteString("=\r\n")
			}
		}
		return b.String()
	}
	each := func(format, text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, format, text[i])
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"upper-case hexadecimal":        strings.ToUpper(hex.EncodeToString([]byte(token))),
		"hexadecimal with colons":       strings.TrimSuffix(each("%02x:", token), ":"),
		"bytes":                         fmt.Sprint([]byte(token)),
		"Go escapes":                    each(`\x%02x`, token),
		"octal escapes":                 each(`\%03o`, token),
		"JSON escapes":                  each(`\u%04x`, token),
		"JSON in JSON in JSON":          inJSON(inJSON(inJSON(`"` + token + `"`))),
		"escapes in JSON in JSON":       inJSON(inJSON(each(`\u%04X`, token))),
		"HTML in decimal":               each("&#%d;", token),
		"HTML in hexadecimal":           each("&#x%x;", token),
		"HTML in HTML":                  each("&amp;#%d;", token),
		"a URL":                         each("%%%02x", token),
		"a URL, three times":            url.QueryEscape(url.QueryEscape(each("%%%02X", token))),
		"quoted-printable":              printable(token),
		"quoted-printable, folded":      pieces(token, "=\r\n"),
		"base64 after one character":    encode([]byte("a" + token)),
		"base64 after two characters":   encode([]byte("ab" + token)),
		"base64 in the middle":          encode([]byte(`{"token":"` + token + `","x":1}`)),
		"base64 for URLs in the middle": base64.RawURLEncoding.EncodeToString([]byte("id=" + token + "&a=b")),
		"base64 twice":                  encode([]byte("x " + encode([]byte(token)) + " y")),
		"base64 of hexadecimal":         encode([]byte(hex.EncodeToString([]byte(token)))),
		"base64 in lines":               pieces(encode([]byte("a"+token)), "\r\n "),
		"base64 in escaped lines":       pieces(encode([]byte("ab"+token)), `\n`),
		"base64 in a list":              `["` + pieces(encode([]byte(token)), `","`) + `"]`,
		"base64 in a URL":               url.QueryEscape(encode([]byte("abc " + token))),
		"base32":                        base32.StdEncoding.EncodeToString([]byte(token)),
		"with what cannot be seen":      pieces(token, "\u200b"),
		"the beginning of it":           token[:20] + "…",
		"the end of it":                 "…" + token[12:],
		"the middle of it":              "…" + token[8:30] + "…",
		"a part of its base64":          "…" + encode([]byte("ab" + token))[9:40] + "…",
		"upper case":                    strings.ToUpper(token),
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range []string{text, Line(text, 1<<10)} {
				shown := New(token).Remove("before " + text + " after")
				assert.Contains(t, shown, Mark)
				assert.Regexp(t, `^before .*<redacted>.* after$`, strings.ReplaceAll(shown, "\n", " "))
				rest := strings.NewReplacer("before ", "", " after", "", Mark, "", `{"token":"`, "", `","x":1}`, "", `"`, "", `\`, "").Replace(shown)
				assert.LessOrEqual(t, len(strings.TrimSpace(rest)), 12, shown)
			}
		})
	}
	for _, text := range []string{"the ACL token is unknown", "6f5c7f8e is the beginning of an ID", "dial tcp 127.0.0.1:4646: connect: connection refused"} {
		assert.Equal(t, text, New(token).Remove(text))
	}
}

func TestRemoveCutEncoded(t *testing.T) {
	const token = "6f5c7f8e-Ab4d-b2c1-9d0e-a1b2c3d4e5f6"
	for name, text := range map[string]string{
		"a URL":    strings.ReplaceAll(token, "-", "%2D")[:10],
		"JSON":     strings.ReplaceAll(token, "-", `\u002d`)[:12],
		"HTML":     strings.ReplaceAll(token, "-", "&#45;")[:11],
		"base64":   base64.StdEncoding.EncodeToString([]byte("ab" + token))[:11],
		"as it is": token[:5],
	} {
		assert.Equal(t, "before ", New(token).RemoveCut("before "+text), name)
	}
	assert.Equal(t, "before. ", New(token).RemoveCut("before. "))
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
		raw, _ := base64.StdEncoding.DecodeString(key)
		for _, form := range []string{
			url.QueryEscape(key), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString([]byte(key)),
			strings.NewReplacer("/", `\/`, "+", `\u002b`, "=", `\u003d`).Replace(key), strings.ReplaceAll(key, "+", "&#43;"),
		} {
			assert.Equal(t, "key <redacted>: no", GossipKeys("key "+form+": no"))
		}
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
		for _, part := range strings.Split(shown, Mark) {
			if secret != "" && strings.Contains(part, secret) {
				t.Fatalf("%q contains %q", shown, secret)
			}
		}
	})
}

func BenchmarkRemove(b *testing.B) {
	text := "GET /v1/agent/members: 403 Permission denied: it requires a valid ACL token with node:read"
	token := strings.Repeat("eyJhbGciOiJSUzI1NiIs.", 40)
	for b.Loop() {
		New("6f5c7f8e-ab4d-b2c1-9d0e-a1b2c3d4e5f6", token).Remove(text)
	}
}

// TestRepetitive removes a repetitive secret from a string that repeats it. A naive search would need
// minutes.
func TestRepetitive(t *testing.T) {
	for _, unit := range []string{"x", "xy", "6d616e61-6765-"} {
		secret := New(strings.Repeat(unit, 8_000))
		echo := strings.Repeat(unit, 64_000/len(unit))
		assert.NotContains(t, secret.Remove("no: "+echo+"!"), unit)
		assert.NotContains(t, secret.RemoveCut(secret.Remove("no: "+echo)), unit)
	}
}

// TestManySecrets removes many secrets from a string with many layers. The search gives up, and nothing is shown.
func TestManySecrets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var secrets []string
	for range 500 {
		secrets = append(secrets, fmt.Sprintf("%032x%012x", random.Uint64(), random.Uint64()))
	}
	text := strings.Repeat("%25252541=3Damp;amp;x&#37;41&amp;amp;", 1_700)
	assert.Equal(t, Mark, New(secrets...).Remove(text))
	assert.Equal(t, text, New(secrets[0]).Remove(text))
}

// TestParts removes every part of a secret that is long enough.
func TestParts(t *testing.T) {
	secret := "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
	for _, secret := range []string{secret, secret + strings.Repeat("-", 10_000) + secret} {
		s := New(secret)
		for length := minShown; length <= 2*minShown; length++ {
			for from := 0; from+length <= 42; from++ {
				part := secret[from : from+length]
				assert.Equal(t, "x. <redacted> .y", s.Remove("x. "+part+" .y"), part)
			}
		}
	}
}

func TestValues(t *testing.T) {
	const key = "Zm9vYmFyYmF6cXV4+2/vcmdlZ3JhdWx0Z2FycGx5MDE="
	other := base64.StdEncoding.EncodeToString([]byte("16 random bytes!"))
	long := strings.Repeat("x ", maxValue/2-10)
	values := map[string]string{
		"a key":      "no " + url.QueryEscape(key) + "!",
		"another":    "no " + other + "!",
		"long":       long + strings.Repeat("y ", 100),
		"a cut key":  long + key,
		"a cut word": long + other,
	}
	require.NoError(t, Values(t.Context(), values, New(key)))
	assert.Equal(t, map[string]string{
		"a key":      "no <redacted>!",
		"another":    "no <redacted>!",
		"long":       long + strings.Repeat("y ", 10) + " …",
		"a cut key":  long + " …",
		"a cut word": long + " …",
	}, values)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, Values(ctx, values, New(key)), context.Canceled)
}

// TestCutAt compares the search for a truncated secret with a naive search.
func TestCutAt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(length int) string {
		b := make([]byte, random.IntN(length))
		for i := range b {
			b[i] = "ab"[random.IntN(2)]
		}
		return string(b)
	}
	for range 20_000 {
		form, l := text(10), newLayer(text(14))
		want := math.MaxInt
		for n := minCut; n < len(form) && n <= len(l.text); n++ {
			if strings.HasSuffix(string(l.text), form[:n]) {
				want = len(l.text) - n
			}
		}
		require.Equal(t, want, l.cutAt(form), "%s in %s", form, l.text)
	}
}
