package tags

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
)

var options = json.JoinOptions(jsontext.AllowInvalidUTF8(true), json.WithUnmarshalers(json.UnmarshalFromFunc(Unmarshal)))

func TestUnmarshal(t *testing.T) {
	long := strings.Repeat("x", 100)
	for text, want := range map[string]map[string]string{
		`{}`:                                   {},
		` { } `:                                {},
		`{"a":"b"}`:                            {"a": "b"},
		"{\n \"a\" : \"b\" ,\t\"c\":\"\"\r\n}": {"a": "b", "c": ""},
		`{"a":"\u0062\n","ü":"é"}`:             {"a": "b\n", "ü": "é"},
		"{\"a\":\"\xff\"}":                     {"a": "\uFFFD"},
		`{"a":"` + long + `"}`:                 {"a": long},
		`{"a:b":"c:d","e":"f,\"g"}`:            {"a:b": "c:d", "e": `f,"g`},
		`null`:                                 nil,
	} {
		var got map[string]string
		assert.NoError(t, json.Unmarshal([]byte(text), &got, options), text)
		assert.Equal(t, want, got, text)
	}
	many := `{"0":"0"`
	for i := range maxTags {
		many += fmt.Sprintf(`,"%d":"x"`, i+1)
	}
	for _, text := range []string{`[]`, `{"a":1}`, `{"a":null,"a":"b"}`, `{"a":"b","a":"c"}`, `{"a":{}}`, `{"a":["b"]}`, `{`, many + `}`} {
		var got map[string]string
		assert.Error(t, json.Unmarshal([]byte(text), &got, options), "%.100s", text)
	}
}

// FuzzUnmarshal compares the results with those of encoding/json.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"a":"b" , "c\n":"d"}`))
	f.Add([]byte(`{"a":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want map[string]string
		err := json.Unmarshal(text, &got, options)
		wanted := json.Unmarshal(text, &want, jsontext.AllowInvalidUTF8(true))
		if (err == nil) != (wanted == nil) && len(want) <= maxTags {
			t.Fatalf("%q: %v, want %v", text, err, wanted)
		}
		if err == nil {
			assert.Equal(t, want, got)
		}
	})
}

func BenchmarkTags(b *testing.B) {
	text := []byte(`[` + strings.Repeat(`{"id":"0b8b9f1e-1f6a-3c2d-7f46-000000000000","rpc_addr":"10.0.0.1","port":"4647","region":"global","dc":"dc1",`+
		`"build":"2.0.5","vsn":"1","raft_vsn":"3","role":"nomad","expect":"3","revision":"abcdef0123456789abcdef0123456789abcdef01"},`, 999) + `{}]`)
	for name, options := range map[string]json.Options{"this": options, "package json": jsontext.AllowInvalidUTF8(true)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var all []map[string]string
				if err := json.Unmarshal(text, &all, options); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
