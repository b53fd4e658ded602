// Package show writes values for programs, as JSON, and for people, as lines.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSON encodes a value. Invalid UTF-8 is replaced and the names in maps are sorted.
func JSON(v any) ([]byte, error) {
	return json.Marshal(v, jsontext.AllowInvalidUTF8(true), json.Deterministic(true))
}

// Line returns s on one line, with what does not print escaped.
func Line(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// Text returns JSON as text to print, with what does not print escaped.
func Text(json []byte) string {
	var b strings.Builder
	for _, r := range string(json) {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// Error returns the message of an error, or an empty string if err is nil.
func Error(err error) string {
	if err == nil {
		return ""
	}
	return Line(err.Error())
}

// Duration returns a duration such as "1.5s", rounded to milliseconds.
func Duration(d time.Duration) string { return d.Round(time.Millisecond).String() }
