// Package redact removes secrets from text that is shown to people.
package redact

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mark stands in place of a secret.
const Mark = "<redacted>"

// Secrets are the secrets of one request. The zero value has none.
type Secrets struct {
	exact []string // forms that are searched as they are
	loose []form   // forms that are searched in squeezed text
}

// form is an encoding of a secret as squeeze returns it.
type form struct {
	text   string
	base64 bool
}

// New makes a set of secrets. Empty ones are ignored.
func New(secrets ...string) Secrets {
	var s Secrets
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		valid := strings.ToValidUTF8(secret, "\uFFFD")
		s.exact = append(s.exact, secret, valid, Line(valid, len(valid)), inQuotes(strconv.Quote(secret)), inQuotes(strconv.QuoteToASCII(secret)))
		if len(secret) >= minEncoded {
			bytes := []byte(secret)
			s.exact = append(s.exact, hex.EncodeToString(bytes), strings.ToUpper(hex.EncodeToString(bytes)),
				base64.RawStdEncoding.EncodeToString(bytes), base64.RawURLEncoding.EncodeToString(bytes),
				url.QueryEscape(secret), strings.TrimRight(secret, "="))
		}
		if len(secret) >= minLoose {
			s.addLoose(secret)
		}
	}
	s.exact = slices.DeleteFunc(s.exact, func(text string) bool { return text == "" })
	slices.Sort(s.exact)
	s.exact = slices.Compact(s.exact)
	return s
}

const (
	minEncoded = 4       // the length from which a secret is searched in other encodings
	minLoose   = 8       // the length from which it is searched in any case, in pieces, and at any place in base64
	maxTwice   = 4 << 10 // the length up to which it is searched in base64 of an encoding
	minShown   = 12      // how many characters of it, in a row, are removed as the whole is
)

// addLoose adds the encodings of a secret that squeeze and unescape do not undo.
func (s *Secrets) addLoose(secret string) {
	bytes := []byte(secret)
	add := func(isBase64 bool, texts ...string) {
		for _, text := range texts {
			if text = strings.Map(squeezed, text); len(text) >= minLoose {
				s.loose = append(s.loose, form{text, isBase64})
			}
		}
	}
	decimal := strings.Trim(fmt.Sprint(bytes), "[]")
	add(false, secret, hex.EncodeToString(bytes), decimal)
	if latin1 := latin1(secret); latin1 != secret {
		add(false, latin1)
	}
	if strings.Contains(secret, " ") {
		add(false, strings.ReplaceAll(secret, " ", "+")) // in a URL
	}
	add(true, base32.StdEncoding.EncodeToString(bytes))
	encoded := base64.StdEncoding.EncodeToString(bytes)
	add(true, shifted(secret)...)
	if len(secret) > maxTwice {
		return
	}
	add(true, shifted(encoded)...)
	add(true, shifted(strings.NewReplacer("+", "-", "/", "_").Replace(encoded))...)
	add(true, shifted(hex.EncodeToString(bytes))...)
}

// shifted returns what the base64 of any text with a secret in it has of the secret, for each place that it can have in
// a group of three bytes.
func shifted(secret string) []string {
	var forms []string
	for shift := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:shift] + secret))
		whole := (shift + len(secret)) * 8 / 6 // characters that have no bit of what follows
		forms = append(forms, encoded[(shift*8+5)/6:whole])
	}
	return forms
}

// latin1 returns a secret of which each byte was taken for a character.
func latin1(secret string) string {
	var b strings.Builder
	for i := range len(secret) {
		b.WriteRune(rune(secret[i]))
	}
	return b.String()
}

// inQuotes returns what is between quotes.
func inQuotes(quoted string) string { return quoted[1 : len(quoted)-1] }

// Remove replaces the secrets in text, in whatever encoding they are.
func (s Secrets) Remove(text string) string { return replace(text, s.find(text)) }

// find returns where text holds a secret. It is everywhere when the search takes too long.
func (s Secrets) find(text string) []span {
	if len(s.exact) == 0 {
		return nil
	}
	var search search
	for _, l := range newLayer(text).layers() {
		for _, secret := range s.exact {
			search.all(l, secret)
		}
		if len(s.loose) == 0 || search.givesUp() {
			continue
		}
		squeezed := l.squeeze()
		blocks := newBlocks(squeezed.text)
		for _, f := range s.loose {
			before := len(search.found)
			search.parts(squeezed, blocks, f.text)
			if f.base64 {
				search.extend(search.found[before:], text)
			}
		}
	}
	if search.givesUp() {
		return []span{{0, len(text)}}
	}
	return search.found
}

// RemoveCut removes the beginning of a secret from the end of a text that was cut there.
func (s Secrets) RemoveCut(text string) string {
	if len(s.exact) == 0 {
		return text
	}
	text = cutEscape.ReplaceAllString(text, "")
	end := len(text)
	for _, l := range newLayer(text).layers() {
		for _, secret := range s.exact {
			end = min(end, l.cutAt(secret))
		}
		if len(s.loose) == 0 {
			continue
		}
		squeezed := l.squeeze()
		for _, f := range s.loose {
			if at := squeezed.cutAt(f.text); at < end {
				end = at
				if f.base64 {
					end = span{at, at}.extend(text, isBase64).from
				}
			}
		}
	}
	return text[:end]
}

// cutEscape is an escape whose end may have been cut.
var cutEscape = regexp.MustCompile(`(%[0-9a-fA-F]?|\\[uxUX]?[0-9a-fA-F]*|&#?\w*|=[0-9a-fA-F]?)$`)

// Line returns text on one printable line of at most about limit bytes.
func Line(text string, limit int) string {
	// Nomad lists errors one to a line, below a line that counts them.
	if first, faults, ok := strings.Cut(text, "\n"); ok && strings.HasSuffix(first, " occurred:") {
		text = strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(faults), "* "), "\n\t* ", "; ")
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return Cut(strings.Join(strings.Fields(text), " "), limit)
}

// Cut shortens text to limit bytes.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + " …"
}

// GossipKeys replaces what looks like a gossip key, in whatever encoding it is.
func GossipKeys(text string) string {
	var found []span
	for _, l := range newLayer(text).layers() {
		for from := 0; from < len(l.text); from++ {
			to := from
			for to < len(l.text) && isKeyPart(rune(l.text[to])) {
				to++
			}
			// The word can begin with something else, as in Key=….
			word := string(l.text[from:to])
			for i := max(0, len(word)-maxKey); i <= len(word)-minKey; i++ {
				if looksLikeKey(word[i:]) {
					found = append(found, span{l.from[from+i], l.to[to-1]})
					break
				}
			}
			from = to
		}
	}
	return replace(text, found)
}

// The lengths of what can be a gossip key: base64 of 16 bytes, and base64 of the base64 of 32.
const minKey, maxKey = 22, 64

// IsGossipKey reports whether text is the base64 of 16, 24 or 32 bytes.
func IsGossipKey(text string) bool {
	key, err := base64.StdEncoding.DecodeString(text)
	// The decoder ignores line breaks; agents do not.
	return err == nil && isKeySize(len(key)) && !strings.ContainsAny(text, "\r\n")
}

// looksLikeKey reports whether text is a gossip key, also in the other alphabet of base64 or without its padding. Then it
// must not be a word.
func looksLikeKey(text string) bool {
	switch len(strings.TrimRight(text, "=")) {
	case 22, 32, 43, 48, 59, 64: // of 16, 24 and 32 bytes in base64, twice in base64, or in hexadecimal
	default:
		return false
	}
	if IsGossipKey(text) {
		return true
	}
	if inner, err := base64.StdEncoding.DecodeString(text); err == nil && IsGossipKey(string(inner)) {
		return true
	}
	if digits, err := hex.DecodeString(text); err == nil && isKeySize(len(digits)) {
		return true
	}
	if !strings.ContainsFunc(text, unicode.IsDigit) || !strings.ContainsFunc(text, unicode.IsUpper) ||
		!strings.ContainsFunc(text, unicode.IsLower) {
		return false
	}
	key, err := base64.RawStdEncoding.DecodeString(inOneAlphabet.Replace(strings.TrimRight(text, "=")))
	return err == nil && isKeySize(len(key))
}

// inOneAlphabet replaces the characters of base64 for URLs.
var inOneAlphabet = strings.NewReplacer("-", "+", "_", "/")

func isKeySize(n int) bool { return n == 16 || n == 24 || n == 32 }

// maxValue is how many bytes a value of Values has at most. Servers send less than 1 KiB.
const maxValue = 4 << 10

// Values removes secrets and what looks like a gossip key from the values of a map, and cuts long ones. It returns an
// error if ctx ends first.
func Values(ctx context.Context, m map[string]string, secrets Secrets) error {
	for name, value := range m {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := ""
		if len(value) > maxValue {
			value, end = secrets.RemoveCut(value[:maxValue]), " …"
			value = strings.TrimRightFunc(value, isKeyPart) // it may be the beginning of a key
			value = strings.ToValidUTF8(value, "")
		}
		m[name] = GossipKeys(secrets.Remove(value)) + end
	}
	return nil
}

// isKeyPart reports whether r is a character of a gossip key in base64 or hexadecimal.
func isKeyPart(r rune) bool { return r == '=' || r < utf8.RuneSelf && isBase64(byte(r)) }
