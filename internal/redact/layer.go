package redact

import (
	"bytes"
	"encoding/binary"
	"html"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a part of a text.
type span struct{ from, to int }

// extend makes a span longer by the characters around it that belong to it.
func (s span) extend(text string, belongs func(byte) bool) span {
	for s.from > 0 && belongs(text[s.from-1]) {
		s.from--
	}
	for s.to < len(text) && belongs(text[s.to]) {
		s.to++
	}
	return s
}

// extend makes each span longer by the base64 around it.
func (s *search) extend(spans []span, text string) {
	var last span
	for i, found := range spans {
		if found.from < last.from || found.to > last.to {
			last = found.extend(text, isBase64)
			s.steps += last.to - last.from
		}
		if s.givesUp() {
			return
		}
		spans[i] = last
	}
}

// isBase64 reports whether a character is one of base64, in either alphabet.
func isBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("+/-_", c) >= 0
}

// replace puts a Mark in place of each span.
func replace(text string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		from, to := spans[i].from, spans[i].to
		for i++; i < len(spans) && spans[i].from <= to; i++ {
			to = max(to, spans[i].to)
		}
		b.WriteString(text[at:from] + Mark)
		at = to
	}
	if at == 0 && b.Len() == 0 {
		return text
	}
	return b.String() + text[at:]
}

// layer is a text without some of its escapes. Byte i stands for the part of the original from from[i] to to[i].
type layer struct {
	text     []byte
	from, to []int
}

func newLayer(text string) *layer {
	l := &layer{text: []byte(text), from: make([]int, len(text)), to: make([]int, len(text))}
	for i := range l.text {
		l.from[i], l.to[i] = i, i+1
	}
	return l
}

// add appends text that stands for the part of another layer from i to j.
func (l *layer) add(text []byte, of *layer, i, j int) {
	for range text {
		l.from, l.to = append(l.from, of.from[i]), append(l.to, of.to[j-1])
	}
	l.text = append(l.text, text...)
}

// maxEscapes is how many times a text can be escaped.
const maxEscapes = 4

// layers returns a text, and what is left of it when its escapes are undone, again and again: first without
// quoted-printable, whose escapes can be a part of others.
func (l *layer) layers() []*layer {
	all := []*layer{l}
	for _, quotedPrintable := range []bool{false, true} {
		if quotedPrintable && !bytes.ContainsRune(l.text, '=') {
			break
		}
		next := l
		for range maxEscapes {
			decoded := next.unescape(quotedPrintable)
			if bytes.Equal(decoded.text, next.text) {
				break
			}
			next = decoded
			all = append(all, next)
		}
	}
	return all
}

// unescape undoes the escapes of URLs, JSON, Go, HTML and quoted-printable once.
func (l *layer) unescape(quotedPrintable bool) *layer {
	if !bytes.ContainsAny(l.text, `%\&=`) {
		return l
	}
	out := new(layer)
	for i := 0; i < len(l.text); {
		text, n := escaped(l.text[i:], quotedPrintable)
		if n == 0 {
			text, n = l.text[i:i+1], 1
		}
		out.add(text, l, i, i+n)
		i += n
	}
	return out
}

// escaped returns what the escape at the beginning of text stands for, and its length, which is 0 if there is none.
func escaped(text []byte, quotedPrintable bool) ([]byte, int) {
	switch c := text[0]; {
	case c == '%', c == '=' && quotedPrintable:
		if n, ok := digits(text, 1, 2, 16); ok {
			return []byte{byte(n)}, 3
		}
		if c == '=' && len(text) > 1 && unicode.IsSpace(rune(text[1])) { // a soft line break
			return nil, 2
		}
	case c == '\\' && len(text) > 1:
		switch kind := text[1]; kind {
		case 'u':
			if n, ok := digits(text, 2, 4, 16); ok {
				return utf8.AppendRune(nil, rune(n)), 6
			}
		case 'U':
			if n, ok := digits(text, 2, 8, 16); ok {
				return utf8.AppendRune(nil, rune(n)), 10
			}
		case 'x':
			if n, ok := digits(text, 2, 2, 16); ok {
				return []byte{byte(n)}, 4
			}
		case 'a', 'b', 'f', 'n', 'r', 't', 'v':
			return []byte{' '}, 2
		default:
			if n, ok := digits(text, 1, 3, 8); ok {
				return []byte{byte(n)}, 4
			}
		}
		return text[1:2], 2
	case c == '&':
		if end := bytes.IndexByte(text[:min(len(text), 32)], ';'); end > 0 {
			if char := html.UnescapeString(string(text[:end+1])); len(char) < end+1 {
				return []byte(char), end + 1
			}
		}
	}
	return nil, 0
}

// digits reads n digits of a number.
func digits(text []byte, from, n, base int) (uint64, bool) {
	if len(text) < from+n {
		return 0, false
	}
	value, err := strconv.ParseUint(string(text[from:from+n]), base, 31)
	return value, err == nil
}

// squeeze makes text comparable: in lower case, in one alphabet of base64, and without the characters that stand between
// pieces.
func (l *layer) squeeze() *layer {
	out := &layer{make([]byte, 0, len(l.text)), make([]int, 0, len(l.text)), make([]int, 0, len(l.text))}
	var char [utf8.UTFMax]byte
	for i, n := 0, 0; i < len(l.text); i += n {
		var r rune
		if r, n = utf8.DecodeRune(l.text[i:]); r == utf8.RuneError && n == 1 {
			out.add(l.text[i:i+1], l, i, i+1)
		} else if r = squeezed(r); r >= 0 {
			out.add(char[:utf8.EncodeRune(char[:], r)], l, i, i+n)
		}
	}
	return out
}

// squeezed returns the character that stands for r in squeezed text, or -1 for none.
func squeezed(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return r
	case strings.ContainsRune("=:\",'`", r), !unicode.IsPrint(r), unicode.IsSpace(r):
		return -1
	case r == '-':
		return '+'
	case r == '_':
		return '/'
	}
	return unicode.ToLower(r)
}

// search collects where a text holds a secret. It gives up when that takes too long.
type search struct {
	found []span
	steps int // how many bytes were compared, roughly
}

// maxSteps is how many bytes are compared at most. An ordinary response needs a few thousand; a secret that repeats
// itself, in a response that repeats it, needs billions, and so do many secrets in a text with many layers.
const maxSteps = 4 << 20

func (s *search) givesUp() bool { return s.steps > maxSteps }

// bytesPerStep is how many bytes package bytes searches in the time of a step.
const bytesPerStep = 32

// all finds where a layer has a text.
func (s *search) all(l *layer, text string) {
	s.steps += 1 + len(l.text)/bytesPerStep
	for i := 0; !s.givesUp(); {
		at := bytes.Index(l.text[i:], []byte(text))
		if at < 0 {
			return
		}
		s.found = append(s.found, span{l.from[i+at], l.to[i+at+len(text)-1]})
		s.steps += 1 + len(text)/bytesPerStep
		i += at + 1
	}
}

// block is the length of the parts of a form that parts searches. They are so close that each minShown characters of
// the form, in a row, have a whole one.
const block, blockStep = 8, minShown - block + 1

// blocks are the blocks of a text by their hash, in lists: each has the place of the first one, and the place of the next
// one for each place. Places count from 1, so that 0 ends a list.
type blocks struct {
	first, next []int32
	shift       int
}

func newBlocks(text []byte) *blocks {
	b := &blocks{next: make([]int32, max(len(text)-block+2, 1)), shift: 64 - bits.Len(uint(len(text)))}
	b.first = make([]int32, 1<<(64-b.shift))
	for i := len(text) - block; i >= 0; i-- {
		h := b.hash(text[i : i+block])
		b.next[i+1], b.first[h] = b.first[h], int32(i+1)
	}
	return b
}

func (b *blocks) hash(block []byte) uint64 {
	return binary.LittleEndian.Uint64(block) * 0x9e3779b97f4a7c15 >> b.shift
}

// parts finds where a layer has a form or a long part of it, as of a text that was cut.
func (s *search) parts(l *layer, in *blocks, form string) {
	ends := make(map[int]int) // where a part ends that was compared, by how far the text is ahead of the form
	for off := 0; off+block <= len(form) && !s.givesUp(); off += blockStep {
		s.steps++
		for n := in.first[in.hash([]byte(form[off:off+block]))]; n > 0 && !s.givesUp(); n = in.next[n] {
			at := int(n) - 1
			s.steps++
			from, to, begin, end := at, at+block, off, off+block
			if ends[from-begin] >= to || string(l.text[from:to]) != form[begin:end] {
				continue
			}
			for from > 0 && begin > 0 && l.text[from-1] == form[begin-1] {
				from, begin = from-1, begin-1
			}
			for to < len(l.text) && end < len(form) && l.text[to] == form[end] {
				to, end = to+1, end+1
			}
			s.steps += to - from
			ends[from-begin] = to
			if to-from >= min(len(form), minShown) {
				s.found = append(s.found, span{l.from[from], l.to[to-1]})
			}
		}
	}
}

// cutAt returns where the end of a layer begins that is the beginning of a form. Without one it is math.MaxInt.
func (l *layer) cutAt(form string) int {
	limit := min(len(form)-1, len(l.text))
	if limit < minCut {
		return math.MaxInt
	}
	// The search of Knuth, Morris and Pratt. shorter[i] is the length of the longest beginning of the form that also ends
	// at i, so that each byte is compared about twice, also where a form repeats itself.
	shorter := make([]int, limit)
	next := func(n int, c byte) int {
		for n > 0 && (n == limit || form[n] != c) {
			n = shorter[n-1]
		}
		if form[n] == c {
			n++
		}
		return n
	}
	for i := 1; i < limit; i++ {
		shorter[i] = next(shorter[i-1], form[i])
	}
	n := 0
	for _, c := range l.text[len(l.text)-limit:] {
		n = next(n, c)
	}
	if n < minCut {
		return math.MaxInt
	}
	return l.from[len(l.text)-n]
}

// minCut is how many characters of a form at the end of a text are its beginning, and not a chance.
const minCut = 3
