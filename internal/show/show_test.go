package show_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nomad-go/nomad/internal/show"
)

func TestLine(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "server-1.global": "server-1.global", "två ord": "två ord",
		"a\nb": `a\nb`, "\x1b[2J": `\x1b[2J`, "\xff": `\xff`, `"` + "\t": `\"\t`,
	} {
		assert.Equal(t, want, show.Line(s))
	}
	assert.Equal(t, `a\nb`, show.Error(errors.New("a\nb")))
	assert.Empty(t, show.Error(nil))
}

func TestText(t *testing.T) {
	want := `{"a":"\n \u009b\u202e\udb40\udc01 ö"}`
	assert.Equal(t, want, show.Text([]byte("{\"a\":\"\\n \u009b\u202e\U000e0001 ö\"}")))
}

func TestDuration(t *testing.T) {
	assert.Equal(t, "1.5s", show.Duration(1500*time.Millisecond+time.Microsecond))
	assert.Equal(t, "0s", show.Duration(0))
}

func TestJSON(t *testing.T) {
	got, err := show.JSON(struct {
		A []string          `json:"a"`
		M map[string]string `json:"m"`
		S string            `json:"s"`
	}{M: map[string]string{"b": "2", "a": "1"}, S: "\xff"})
	assert.NoError(t, err)
	assert.Equal(t, `{"a":[],"m":{"a":"1","b":"2"},"s":"`+"\uFFFD"+`"}`, string(got))
}
