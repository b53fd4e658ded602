// Package redact removes secrets from text that is shown to people.
package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Mark stands in place of a secret.
const Mark = "<redacted>"

// Secrets are the secrets of one request. The zero value has none.
type Secrets struct {
	forms   []string // each secret in each form, longest first
	pattern *regexp.Regexp
}

// New makes a set of secrets. Empty ones are ignored.
func New(secrets ...string) Secrets {
	var s Secrets
	for _, secret := range secrets {
		if secret != "" {
			s.forms = append(s.forms, forms(secret)...)
		}
	}
	if len(s.forms) == 0 {
		return s
	}
	slices.SortFunc(s.forms, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	s.forms = slices.Compact(s.forms)
	quoted := make([]string, len(s.forms))
	for i, form := range s.forms {
		if quoted[i] = regexp.QuoteMeta(form); len(form) >= minAnyCase {
			quoted[i] = "(?i:" + quoted[i] + ")"
		}
	}
	s.pattern = regexp.MustCompile(strings.Join(quoted, "|"))
	return s
}

const (
	minEncoded = 4 // the length from which a secret is looked for in other encodings
	minAnyCase = 8 // the length from which it is looked for in any case
)

// forms returns a secret in the encodings in which servers and proxies repeat what they received.
func forms(secret string) []string {
	valid := strings.ToValidUTF8(secret, "\uFFFD")
	all := []string{valid, Line(valid, len(valid)), inQuotes(strconv.Quote(secret)), inQuotes(strconv.QuoteToASCII(secret))}
	if len(secret) < minEncoded {
		return slices.DeleteFunc(all, func(form string) bool { return form == "" })
	}
	quoted, _ := json.Marshal(valid)
	inJSON := inQuotes(string(quoted))
	bytes := []byte(secret)
	all = append(all,
		inJSON, strings.ReplaceAll(inJSON, "/", `\/`), strings.ReplaceAll(inJSON, "+", `\u002b`), inQuotes(strconv.Quote(inJSON)),
		url.QueryEscape(secret), url.PathEscape(secret), url.QueryEscape(url.QueryEscape(secret)), percent(secret),
		html.EscapeString(valid), strings.ReplaceAll(html.EscapeString(valid), "+", "&#43;"),
		hex.EncodeToString(bytes),
		base64.RawStdEncoding.EncodeToString(bytes), base64.RawURLEncoding.EncodeToString(bytes),
		base64.StdEncoding.EncodeToString(bytes), base64.URLEncoding.EncodeToString(bytes),
	)
	if trimmed := strings.TrimRight(valid, "="); len(trimmed) >= minEncoded { // of one that is base64 itself
		all = append(all, trimmed, strings.NewReplacer("+", "-", "/", "_").Replace(trimmed))
	}
	return slices.DeleteFunc(all, func(form string) bool { return form == "" })
}

// inQuotes returns what is between quotes.
func inQuotes(quoted string) string { return quoted[1 : len(quoted)-1] }

// percent escapes every byte that is not a letter or a digit.
func percent(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

// In reports whether text holds one of the secrets.
func (s Secrets) In(text string) bool { return s.pattern != nil && s.pattern.MatchString(text) }

// Remove replaces the secrets in text.
func (s Secrets) Remove(text string) string {
	if s.pattern == nil {
		return text
	}
	return s.pattern.ReplaceAllLiteralString(text, Mark)
}

// RemoveCut removes the beginning of a secret from the end of a text that was cut there.
func (s Secrets) RemoveCut(text string) string {
	for _, form := range s.forms {
		for n := min(len(form)-1, len(text)); n > 2; n-- {
			if end := text[len(text)-n:]; strings.EqualFold(end, form[:n]) {
				return text[:len(text)-n]
			}
		}
	}
	return text
}

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

// GossipKeys replaces what looks like a gossip key.
func GossipKeys(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+/=-_", r))
	})
	for _, word := range words {
		// The word can begin with something else, as in Key=….
		for i := max(0, len(word)-44); i <= len(word)-22; i++ {
			if looksLikeKey(word[i:]) {
				text = strings.ReplaceAll(text, word[i:], Mark)
				break
			}
		}
	}
	return text
}

// IsGossipKey reports whether text is the base64 of 16, 24 or 32 bytes.
func IsGossipKey(text string) bool {
	key, err := base64.StdEncoding.DecodeString(text)
	// The decoder ignores line breaks; agents do not.
	return err == nil && isKeySize(len(key)) && !strings.ContainsAny(text, "\r\n")
}

// looksLikeKey reports whether text is a gossip key, also in the other alphabet of base64 or without its padding. Then it
// must not be a word.
func looksLikeKey(text string) bool {
	if IsGossipKey(text) {
		return true
	}
	if !strings.ContainsFunc(text, unicode.IsDigit) || !strings.ContainsFunc(text, unicode.IsUpper) ||
		!strings.ContainsFunc(text, unicode.IsLower) {
		return false
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawStdEncoding.DecodeString(text)
	return err == nil && isKeySize(len(key))
}

func isKeySize(n int) bool { return n == 16 || n == 24 || n == 32 }
