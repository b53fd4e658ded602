package lenient

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type document struct {
	String   string
	Bool     bool
	Int      int
	Int8     int8
	Uint     uint64
	Float    float64
	Duration time.Duration
	Time     time.Time
	Addr     netip.Addr
	Raw      json.RawMessage
	Any      any
	List     []string
	Blocks   []block
	Map      map[string]int
	Nested   map[string]map[string]string
	Block    block
	Pointer  *block
	PInt     *int
	PString  *string
	PTime    *time.Duration
	Own      *own `json:"own"`
	Ignored  int  `json:"-"`
}

type block struct {
	A string
	B *bool
	C [64]string // so that a list of them is large
}

// own has its own decoder, which keeps the JSON.
type own struct {
	A   int
	raw string
}

func (o *own) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type fields own
	raw, err := UnmarshalFrom(dec, (*fields)(o))
	o.raw = raw
	return err
}

func TestValuesThatFitAreDecoded(t *testing.T) {
	var d document
	text := `{"String":"sÃ©\u00e9","Bool":true,"Int":-5,"Int8":127,"Uint":18446744073709551615,"Float":1.5e3,
		"Duration":"1m30s","Time":"2026-01-02T03:04:05Z","Addr":"::1","Raw":{"a":1},"Any":[1],"List":["a","b"],
		"Blocks":[{"A":"x","B":false},{}],"Map":{"a":1},"Nested":{"a":{"b":"c"}},"Block":{"A":"y"},"Pointer":{"A":"z"},
		"PInt":7,"PString":"p","PTime":1000, "own" : {"A": 1 }}`
	require.NoError(t, Unmarshal([]byte(text), &d))
	assert.Equal(t, document{
		String: "sÃ©é", Bool: true, Int: -5, Int8: 127, Uint: 1<<64 - 1, Float: 1500, Duration: 90 * time.Second,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Addr: netip.IPv6Loopback(), Raw: json.RawMessage(`{"a":1}`),
		Any: []any{1.}, List: []string{"a", "b"}, Blocks: []block{{A: "x", B: new(false)}, {}}, Map: map[string]int{"a": 1},
		Nested: map[string]map[string]string{"a": {"b": "c"}}, Block: block{A: "y"}, Pointer: &block{A: "z"},
		PInt: new(7), PString: new("p"), PTime: new(time.Microsecond), Own: &own{1, `{"A": 1 }`},
	}, d)
	assert.Empty(t, Unknown([]byte(text), reflect.TypeFor[document]()))
}

// TestOneValueOfAnotherType decodes values of each kind into each field, next to a field that matches.
func TestOneValueOfAnotherType(t *testing.T) {
	texts, durations := []string{`"x"`, `""`, `"5s"`, `"2026-01-02T03:04:05Z"`}, []string{"1", `""`, `"5s"`}
	lists, objects := []string{"[]", `["x"]`}, []string{"{}", `{"x":5}`}
	fits := map[string][]string{
		"String": texts, "Bool": {"true"}, "Int": {"1"}, "Int8": {"1"}, "Uint": {"1"}, "Duration": durations,
		"Float": {"1", "1.5", "-99999999999999999999"}, "Time": texts[3:], "Addr": {`""`}, "List": lists,
		"Blocks": lists[:1], "Map": objects, "Nested": objects[:1], "Block": objects[:1], "Pointer": objects[:1],
		"PInt": {"1"}, "PString": texts, "PTime": durations, "Own": objects[:1],
	}
	partly := map[string]string{ // one element has another type
		`Blocks["x"]`: "/Blocks/0", `Nested{"x":5}`: "/Nested/x", `Block{"x":5}`: "/Block/x",
		`Pointer{"x":5}`: "/Pointer/x", `Own{"x":5}`: "/own/x",
	}
	values := slices.Concat(texts, lists, objects, []string{"true", "1", "1.5", "1e400", "-99999999999999999999", "null"})
	for name, fitting := range fits {
		for _, value := range values {
			key := strings.Replace(name, "Own", "own", 1)
			text := fmt.Sprintf(`{"Before":1,%q:%s,"Any":2}`, key, value)
			var d document
			require.NoError(t, Unmarshal([]byte(text), &d), text)
			assert.Equal(t, 2., d.Any)
			unknown := Unknown([]byte(text), reflect.TypeFor[document]())
			assert.Contains(t, unknown, "/Before")
			delete(unknown, "/Before")
			field := reflect.ValueOf(d).FieldByName(name)
			switch {
			case value == "null":
				assert.True(t, field.IsZero(), text)
				assert.Empty(t, unknown, text)
			case slices.Contains(fitting, value):
				assert.Empty(t, unknown, text)
				assert.Equal(t, !field.IsZero(), field.Kind() == reflect.Pointer || !slices.Contains([]string{`""`, "{}"}, value) ||
					field.Kind() == reflect.Map, text)
			case partly[name+value] != "":
				assert.Equal(t, []string{partly[name+value]}, slices.Collect(maps.Keys(unknown)), text)
			default:
				assert.True(t, field.IsZero(), "%s: %v", text, field)
				assert.Equal(t, map[string]json.RawMessage{"/" + key: json.RawMessage(value)}, unknown)
			}
		}
	}
}

func TestElementsKeepTheirPlaces(t *testing.T) {
	text := `{"List":["a",1,"c"],"Blocks":[5,{"A":"x"}],"Map":{"a":"x","b":2},"Nested":{"a":5,"b":{"c":1,"d":"e"}},
		"New":{"x":1},"Block":{"D":[null]}}`
	var d document
	require.NoError(t, Unmarshal([]byte(text), &d))
	assert.Equal(t, []string{"a", "", "c"}, d.List)
	assert.Equal(t, []block{{}, {A: "x"}}, d.Blocks)
	assert.Equal(t, map[string]int{"a": 0, "b": 2}, d.Map)
	assert.Equal(t, map[string]map[string]string{"a": nil, "b": {"c": "", "d": "e"}}, d.Nested)
	unknown := map[string]string{}
	for path, value := range Unknown([]byte(text), reflect.TypeFor[*document]()) {
		unknown[path] = string(value)
	}
	assert.Equal(t, map[string]string{"/List/1": "1", "/Blocks/0": "5", "/Map/a": `"x"`, "/Nested/a": "5",
		"/Nested/b/c": "1", "/New": `{"x":1}`, "/Block/D": "[null]"}, unknown)
}

func TestDocumentsThatFail(t *testing.T) {
	for _, text := range []string{"", "[]", `"x"`, "5", "{", `{"String":"a","String":"a"}`, `{"New":{"a":1,"a":2}}`,
		`{"Map":{"a":1,"a":"x"}}`, `{"String":1,"String":2}`, `{} {}`, `{}x`, `{"String":"\x"}`, `{"String":"a",}`} {
		d := document{String: "old"}
		assert.Error(t, Unmarshal([]byte(text), &d), text)
	}
	d := document{String: "old", Int: 5}
	require.NoError(t, Unmarshal([]byte(`{"String":"new `+"\xff"+`"}`), &d))
	assert.Equal(t, document{String: "new \ufffd"}, d)
}

func TestUnmarshalFromReadsStreams(t *testing.T) {
	for _, text := range []string{`{"own":{"A":1,"B":[2]}}`, `{"own":{"A":"x","B":[2]},"Int":5}`} {
		var d document
		require.NoError(t, jsonv2.UnmarshalRead(strings.NewReader(text), &d))
		assert.Contains(t, text, d.Own.raw)
		assert.Contains(t, d.Own.raw, `"B":[2]}`)
	}
}

// TestHostileDocuments checks the memory that Unmarshal and Unknown allocate for documents of 4 MiB.
func TestHostileDocuments(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 20 s with the race detector")
	}
	const size, most = 4 << 20, 48 << 20
	repeat := func(begin string, element any, end string) string {
		if element, ok := element.(string); ok {
			return begin + strings.TrimSuffix(strings.Repeat(element, (size-len(begin)-len(end))/len(element)), ",") + end
		}
		var b strings.Builder
		b.WriteString(begin)
		for i := 0; b.Len()+len(end)+20 < size; i++ {
			b.WriteString(element.(func(int) string)(i))
		}
		return strings.TrimSuffix(b.String(), ",") + end
	}
	keyed := func(value string) func(int) string {
		return func(i int) string { return fmt.Sprintf(`"%x":%s,`, i, value) }
	}
	long := strings.Repeat("k", size/2)
	for name, text := range map[string]string{
		"deep lists":              strings.Repeat("[", size),
		"deep objects":            strings.Repeat(`{"a":`, size/5),
		"deep in a field":         `{"New":` + strings.Repeat("[", size/2) + strings.Repeat("]", size/2) + "}",
		"deep in any":             `{"Any":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"long string":             repeat(`{"String":"`, "a", `"}`),
		"long unknown string":     repeat(`{"New":"`, "a", `"}`),
		"escapes":                 repeat(`{"String":"`, `\u00e9`, `"}`),
		"commas":                  repeat(`{"String":"`, `,`, `"}`),
		"long duration":           repeat(`{"Duration":"`, "1h", `"}`),
		"unknown fields":          repeat("{", keyed("1"), "}"),
		"unknown null":            repeat("{", keyed("null"), "}"),
		"unknown list":            repeat(`{"New":[`, "1,", "]}"),
		"unknown objects":         repeat(`{"New":[`, "{},", "]}"),
		"duplicate fields":        repeat(`{`, `"String":"a",`, "}"),
		"long number":             repeat(`{"Int":`, "1", "}"),
		"long numbers":            repeat(`{"New":[`, strings.Repeat("1", 10_000)+",", "]}"),
		"long floats":             repeat(`{"Map":{`, keyed(strings.Repeat("1", 10_000)), "}}"),
		"blocks":                  repeat(`{"Blocks":[`, "{},", "]}"),
		"blocks of another type":  repeat(`{"Blocks":[`, "0,", "]}"),
		"null blocks":             repeat(`{"Blocks":[`, "null,", "]}"),
		"few large blocks":        repeat(`{"Blocks":[`, `{"A":"`+strings.Repeat("a", 1000)+`"},`, "]}"),
		"strings":                 repeat(`{"List":[`, `"",`, "]}"),
		"strings of another type": repeat(`{"List":[`, `1,`, "]}"),
		"map":                     repeat(`{"Map":{`, keyed("1"), "}}"),
		"map of another type":     repeat(`{"Map":{`, keyed(`""`), "}}"),
		"maps":                    repeat(`{"Nested":{`, keyed(`{"":""}`), "}}"),
		"map under a long name":   repeat(`{"Nested":{"`+long+`":{`, keyed("1"), "}}}"),
		"invalid UTF-8":           repeat(`{"String":"`, "\xff", `"}`),
		"spaces":                  repeat("{", " ", "}"),
	} {
		t.Run(name, func(t *testing.T) {
			require.LessOrEqual(t, len(text), size+10_000)
			data := []byte(text)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var d document
			err := Unmarshal(data, &d)
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(most), "error: %v", err)
			if err != nil {
				assert.Less(t, len(err.Error()), 10_000)
			}
			runtime.ReadMemStats(&before)
			unknown := Unknown(data, reflect.TypeFor[document]())
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(most), "%d unknown", len(unknown))
		})
	}
}

// FuzzUnmarshal compares strict decoding, tolerant decoding and Unknown.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{`{"String":"a","Duration":"5s","Own":{"A":1}}`, `{"String":1,"Blocks":[{"B":null},1]}`,
		`{"a/b":{"c":[1e5]},"Addr":"::1"}`, `{"own":{"A":"x"},"Nested":{"a":{"b":1}},"PTime":""}`, `[]`, `{"Time":5,"Int8":300,"Any":{"a":[null]}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d, tolerated document
		err := Unmarshal([]byte(text), &d)
		unknown := Unknown([]byte(text), reflect.TypeFor[document]())
		if errTolerant := jsonv2.Unmarshal([]byte(text), &tolerated, tolerantOptions); (err == nil) != (errTolerant == nil) {
			t.Fatalf("%v, tolerant: %v", err, errTolerant)
		}
		if err != nil {
			return
		}
		require.Equal(t, tolerated, d)
		for path := range unknown {
			if !strings.HasPrefix(path, "/") {
				t.Fatalf("a path %q", path)
			}
		}
		var strictly document
		err = jsonv2.Unmarshal([]byte(text), &strictly, strictOptions, jsonv2.RejectUnknownMembers(true))
		if err == nil && len(unknown) > 0 {
			t.Fatalf("every value has a field, but some are unknown: %s", unknown)
		}
	})
}
