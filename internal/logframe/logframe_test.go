package logframe

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
)

func frame(piece string) string {
	return fmt.Sprintf(`{"Data":%q,"Offset":7}`, base64.StdEncoding.EncodeToString([]byte(piece)))
}

// read returns the log and the error that ended it.
func read(from io.Reader) (string, error) {
	var log strings.Builder
	for r := NewReader(from); ; {
		piece, err := r.Next()
		log.Write(piece)
		if err != nil {
			return log.String(), err
		}
	}
}

func TestReader(t *testing.T) {
	lost := errors.New("lost")
	large := fmt.Sprintf(`{"Data":"%s`, strings.Repeat("A", MaxFrame))
	for name, test := range map[string]struct {
		stream  io.Reader
		log     string
		err     error  // io.EOF for a FormatError
		message string // of a FormatError
	}{
		"frames and heartbeats":             {strings.NewReader(frame("a\n") + "{}\n{}" + frame("b") + "\n" + frame("c\n")), "a\nbc\n", io.EOF, ""},
		"one byte at a time":                {iotest.OneByteReader(strings.NewReader(frame("a") + "{}" + frame("b"))), "ab", io.EOF, ""},
		"nothing":                           {strings.NewReader(""), "", io.EOF, ""},
		"null data is a heartbeat":          {strings.NewReader(`{"Data":null}{"Data":"","File":"x"}`), "", io.EOF, ""},
		"an end within a frame":             {strings.NewReader(frame("a") + `{"Data":"YW`), "a", io.ErrUnexpectedEOF, ""},
		"a connection lost between frames":  {io.MultiReader(strings.NewReader(frame("a")), iotest.ErrReader(lost)), "a", lost, ""},
		"a connection lost within a frame":  {io.MultiReader(strings.NewReader(frame("a")+`{"Da`), iotest.ErrReader(lost)), "a", lost, ""},
		"the message of an agent":           {strings.NewReader(frame("a") + "rpc error: Permission denied"), "a", nil, "rpc error: Permission denied"},
		"a message in pieces":               {iotest.OneByteReader(strings.NewReader(frame("a") + "rpc error")), "a", nil, "rpc error"},
		"a page":                            {strings.NewReader("<html>"), "", nil, "<html>"},
		"another value":                     {strings.NewReader(`"text"`), "", nil, `"text"`},
		"data that is not base64":           {strings.NewReader(`{"Data":"%%%"}`), "", nil, ""},
		"data that is not text":             {strings.NewReader(`{"Data":{"a":1}}`), "", nil, ""},
		"a name twice":                      {strings.NewReader(`{"Data":"","Data":""}`), "", nil, ""},
		"a frame without an end":            {io.MultiReader(strings.NewReader(large), neverEnding{}), "", nil, ""},
		"a long message, which is cut":      {strings.NewReader(strings.Repeat("x", 5000)), "", nil, strings.Repeat("x", MaxMessage)},
		"many frames in one, which are not": {strings.NewReader("[" + frame("a") + "]"), "", nil, "[" + frame("a") + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := read(test.stream)
			assert.Equal(t, test.log, log)
			if test.err != nil {
				assert.Equal(t, test.err, err)
				return
			}
			var format *FormatError
			if assert.ErrorAs(t, err, &format) && test.message != "" {
				assert.Equal(t, test.message, format.Message)
			}
		})
	}
}

// neverEnding is a reader that never ends.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(frame("a\n") + "{}" + frame("b")))
	f.Add([]byte("rpc error: Permission denied"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, err := read(bytes.NewReader(stream))
		if err == nil {
			t.Fatal("the stream ended without an error")
		}
		pieces, second := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if whole != pieces || errors.Is(err, io.EOF) != errors.Is(second, io.EOF) {
			t.Fatalf("%q, %v; in pieces %q, %v", whole, err, pieces, second)
		}
	})
}

func TestTextEntry(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 123e6, time.UTC)
	for line, want := range map[string]Entry{
		`2026-11-26T10:00:00.123Z [INFO]  nomad.raft: entering leader state: leader="Node at 127.0.0.1:4647 [Leader]"`: {Time: at, Level: "info",
			Module: "nomad.raft", Message: `entering leader state: leader="Node at 127.0.0.1:4647 [Leader]"`},
		"2026-11-26T10:00:00.123Z [ERROR] agent: ":                                       {Time: at, Level: "error", Module: "agent"},
		"2026-11-26T10:00:00.123Z [WARN]  no module here":                                {Time: at, Level: "warn", Message: "no module here"},
		"Nov 26 10:00:00 host-1 nomad[812]: 2026-11-26T10:00:00.123Z [DEBUG] http: a: b": {Time: at, Level: "debug", Module: "http", Message: "a: b"},
		"-- No entries --":                      {Message: "-- No entries --"},
		"2026-99-99T10:00:00.123Z [INFO]  a: b": {Message: "2026-99-99T10:00:00.123Z [INFO]  a: b"},
		"2026-11-26T10:00:00.123Z [LOUD]  a: b": {Message: "2026-11-26T10:00:00.123Z [LOUD]  a: b"},
		"  | the second line":                   {Message: "  | the second line"},
	} {
		assert.Equal(t, want, ParseEntry(line))
	}
	east := ParseEntry("2026-11-26T11:00:00.123+0100 [INFO]  a: b")
	assert.True(t, at.Equal(east.Time), east.Time)
}

// TestEntriesCanBeEncoded parses lines that decoders accept and encoders refuse.
func TestEntriesCanBeEncoded(t *testing.T) {
	deep := strings.Repeat("[", 9990) + strings.Repeat("]", 9990)
	flat := "[" + strings.Repeat("{},", 9990) + "{}]"
	for sent, want := range map[string]any{
		`{"a":1,"a":2}`:           `{"a":1,"a":2}`,
		`[{"a":1.50,"a":2}]`:      `[{"a":1.50,"a":2}]`,
		`["\ud800"]`:              `["\ud800"]`,
		`{"\ud800":1}`:            `{"\ud800":1}`,
		"{\"\xff\":1,\"\xfe\":2}": "{\"\uFFFD\":1,\"\uFFFD\":2}",
		deep:                      deep,
		flat:                      json.RawMessage(flat),
		`"\ud800"`:                "\uFFFD",
		`1e999`:                   json.Number("1e999"),
		`{"a":1.50,"b":[1E+2]}`:   json.RawMessage(`{"a":1.50,"b":[1E+2]}`),
	} {
		e := ParseEntry(`{"@message":"m","x":` + sent + `}`)
		assert.Equal(t, Entry{Message: "m", Fields: map[string]any{"x": want}}, e)
		encoded, err := json.Marshal([]any{e.Fields})
		assert.NoError(t, err)
		assert.True(t, jsontext.Value(encoded).IsValid(), "strict JSON")
	}
	for _, line := range []string{`{"@message":"m","@timestamp":"2026-11-26T10:00:00+24:00"}`, "2026-11-26T10:00:00.123+2400 [INFO]  a: b"} {
		assert.Zero(t, ParseEntry(line).Time)
	}
}

// TestLongLines reads lines about as long as the longest, which have no part that is empty.
func TestLongLines(t *testing.T) {
	for _, length := range []int{MaxLine - 1, MaxLine, MaxLine + 1, 2*MaxLine - 1, 2 * MaxLine} {
		for _, end := range []string{"\n", "\r\n", "\r\r\n", ""} {
			text := NewText([]byte(strings.Repeat("x", length)+end), func() ([]byte, error) { return nil, io.EOF }, goesOn)
			whole := strings.TrimSuffix(strings.Repeat("x", length)+strings.TrimSuffix(end, "\n"), "\r")
			var lines []string
			for line, err := range text.Lines(nil) {
				assert.NoError(t, err)
				assert.NotEmpty(t, line, "%d bytes and %q", length, end)
				lines = append(lines, line)
			}
			assert.True(t, whole == strings.Join(lines, ""), "%d bytes and %q", length, end)
			if end != "\r\r\n" { // the first of these may be a piece of its own
				assert.Equal(t, (len(whole)+MaxLine-1)/MaxLine, len(lines), "%d bytes and %q", length, end)
			}
		}
	}
	waits := func() ([]byte, error) {
		assert.Fail(t, "a piece of a long line waits for what follows it")
		return nil, io.EOF
	}
	for line := range NewText([]byte(strings.Repeat("x", MaxLine)), waits, goesOn).Lines(nil) {
		assert.Len(t, line, MaxLine)
		break
	}
	lost := errors.New("lost")
	text := NewText([]byte(strings.Repeat("x", MaxLine)), func() ([]byte, error) { return nil, lost }, goesOn)
	var err error
	for _, err = range text.Lines(nil) {
	}
	assert.Equal(t, lost, err)
}

// goesOn is for a log that nobody ends.
func goesOn() error { return nil }

// TestEnded ends a log of which much is buffered.
func TestEnded(t *testing.T) {
	stopped := errors.New("stopped")
	var ended error
	text := NewText([]byte(strings.Repeat("x\n", 1000)), func() ([]byte, error) { return nil, io.EOF }, func() error { return ended })
	lines := 0
	for _, err := range text.Lines(nil) {
		if err != nil {
			assert.Equal(t, stopped, err)
			break
		}
		if lines++; lines == 10 {
			ended = stopped
		}
	}
	assert.Equal(t, 10, lines)
	n, err := text.Read(make([]byte, 8))
	assert.Zero(t, n)
	assert.Equal(t, stopped, err)
}
