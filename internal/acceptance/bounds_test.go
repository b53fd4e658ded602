package acceptance_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// TestMemoryOfHostileResponses has agents send documents that need as much memory as possible when they
// are decoded. They are as large as the limit of the endpoint allows.
func TestMemoryOfHostileResponses(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute with the race detector")
	}
	limits := map[string]int{"Members": 8 << 20, "Monitor": 8 << 20, "MonitorExport": 8 << 20, "Profile": 8 << 20}
	worst, worstTimes := 0, 0.
	for _, shape := range shapes {
		size := limits[shape.call]
		if size == 0 {
			size = 1 << 20
		}
		body := shape.text(size - 100)
		client, err := nomad.NewClient(testkit.WithResponse(200, body), nomad.WithRetries(0))
		require.NoError(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = completeCalls[shape.call](t.Context(), client)
		runtime.ReadMemStats(&after)
		if err != nil {
			assert.NotErrorIs(t, err, context.DeadlineExceeded, shape.name)
		}
		allocated := int(after.TotalAlloc - before.TotalAlloc)
		if times := float64(allocated) / float64(len(body)); shape.call == "Members" {
			assert.LessOrEqual(t, times, 8., "%s: %s: all allocations, including garbage, as a multiple of the document size", shape.call, shape.name)
			worstTimes = max(worstTimes, times)
		} else if limits[shape.call] == 0 {
			assert.LessOrEqual(t, allocated>>20, 64, "%s: %s: all allocations in MiB, including garbage", shape.call, shape.name)
			worst = max(worst, allocated>>20)
		}
	}
	t.Logf("%d shapes; Members allocated at most %.1f times the document, the others at most %d MiB", len(shapes), worstTimes, worst)
}

// repeated returns a document of about the given size that repeats one element.
func repeated(open, element, end string, size int) string {
	n := max(1, (size-len(open)-len(end))/len(element))
	return open + strings.TrimSuffix(strings.Repeat(element, n), ",") + end
}

// counted returns a document of about the given size whose elements differ.
func counted(open string, element func(i int) string, end string, size int) string {
	var b strings.Builder
	b.WriteString(open)
	for i := 0; b.Len()+len(end) < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(element(i))
	}
	b.WriteString(end)
	return b.String()
}

// repeat uses repeated if element is a string, and counted if it is a function.
func repeat(open string, element any, end string) func(size int) string {
	return func(size int) string {
		if element, ok := element.(func(int) string); ok {
			return counted(open, element, end, size)
		}
		return repeated(open, element.(string), end, size)
	}
}

// inConfig does the same as repeat inside an agent's configuration.
func inConfig(open string, element any, end string) func(size int) string {
	return repeat(`{"config":{`+open, element, end+`},"member":{},"stats":{}}`)
}

// nested returns documents of about the given size with the deepest possible nesting.
func nested(open, down, up, end string) func(size int) string {
	return func(size int) string {
		n := size / (len(down) + len(up))
		return open + strings.Repeat(down, n) + strings.Repeat(up, n) + end
	}
}

// keyed returns object members with short, distinct keys and the same value.
func keyed(value string) func(i int) string {
	return func(i int) string { return fmt.Sprintf(`"%x":%s`, i, value) }
}

var shapes = []struct {
	call, name string
	text       func(size int) string
}{
	{"Members", "{} members", repeat(`{"Members":[`, `{},`, `]}`)},
	{"Members", "null members", repeat(`{"Members":[`, `null,`, `]}`)},
	{"Members", "0 members", repeat(`{"Members":[`, `0,`, `]}`)},
	{"Members", "named", repeat(`{"Members":[`, `{"Name":"a"},`, `]}`)},
	{"Members", "tag keys", repeat(`{"Members":[{"Name":"a","Tags":{`, keyed(`""`), `}}]}`)},
	{"Members", "small tags", repeat(`{"Members":[`, `{"Name":"a","Tags":{"":""}},`, `]}`)},
	{"Members", "empty tags", repeat(`{"Members":[`, `{"Name":"a","Tags":{}},`, `]}`)},
	{"Members", "unknown keys", repeat(`{"Members":[{"Name":"a"}],`, keyed(`""`), `}`)},
	{"Members", "unknown keys of member", repeat(`{"Members":[{"Name":"a",`, keyed(`""`), `}]}`)},
	{"Members", "duplicates", repeat(`{"Members":[{"Name":"a"}],`, `"a":"",`, `}`)},
	{"Members", "nest unknown", nested(`{"Members":[{"Name":"a"}],"x":`, "[", "]", "}")},
	{"Members", "nest objects", nested(`{"Members":[{"Name":"a"}],"x":`, `{"":`, `}`, "}")},
	{"Members", "list of nested 9k", repeat(`{"Members":[{"Name":"a"}],"x":[`, strings.Repeat("[", 4000)+strings.Repeat("]", 4000)+",", "]}")},
	{"Members", "list of nested obj 4k", repeat(`{"Members":[{"Name":"a"}],"x":[`, strings.Repeat(`{"a":`, 4000)+"1"+strings.Repeat("}", 4000)+",", "]}")},
	{"Members", "unknown nulls", repeat(`{"Members":[{"Name":"a"}],"x":[`, "null,", "]}")},
	{"Members", "unknown numbers", repeat(`{"Members":[{"Name":"a"}],"x":[`, "1,", "]}")},
	{"Members", "long number port", repeat(`{"Members":[{"Name":"a","Port":`, "1", "}]}")},
	{"Members", "long name", repeat(`{"Members":[{"Name":"`, "a", `"}]}`)},
	{"Members", "escapes", repeat(`{"Members":[{"Name":"`, `\n`, `"}]}`)},
	{"Members", "u escapes", repeat(`{"Members":[{"Name":"`, `\u00e9`, `"}]}`)},
	{"Members", "invalid utf8", repeat(`{"Members":[{"Name":"`, "\xff", `"}]}`)},
	{"Members", "long key", repeat(`{"Members":[{"Name":"a"}],"`, "a", `":1}`)},
	{"Members", "long addr", repeat(`{"Members":[{"Name":"a","Addr":"`, "1", `"}]}`)},
	{"Members", "1MiB keys", repeat(`{"Members":[{"Name":"a","Tags":{`, func(i int) string { return fmt.Sprintf(`"%d%s":""`, i, strings.Repeat("k", 1<<18)) }, `}}]}`)},
	{"Members", "spaces", repeat(`{"Members":[{"Name":"a"}]`, " ", `}`)},
	{"Servers", "empty", repeat("[", `"",`, "]")},
	{"Servers", "null", repeat("[", `null,`, "]")},
	{"Servers", "a", repeat("[", `"a",`, "]")},
	{"Servers", "long", repeat("[\"", `a`, "\"]")},
	{"Servers", "escaped", repeat("[\"", `\n`, "\"]")},
	{"Servers", "number", repeat("[", `1`, "]")},
	{"Self", "unknown keys", inConfig(``, keyed(`""`), ``)},
	{"Self", "unknown null", inConfig(``, keyed("null"), ``)},
	{"Self", "unknown keys top", repeat(`{"config":{},"member":{},"stats":{},`, keyed(`""`), `}`)},
	{"Self", "unknown keys Client", inConfig(`"Client":{`, keyed(`""`), `}`)},
	{"Self", "unknown keys Client slash", inConfig(`"Client":{`, func(i int) string { return fmt.Sprintf(`"%x/~":""`, i) }, `}`)},
	{"Self", "slash key", inConfig(`"Client":{"`, "/", `":1}`)},
	{"Self", "slash map keys", inConfig(`"Client":{"Meta":{"`, "/", `":1}}`)},
	{"Self", "Meta", inConfig(`"Client":{"Meta":{`, keyed(`""`), `}}`)},
	{"Self", "Meta wrong", inConfig(`"Client":{"Meta":{`, keyed("1"), `}}`)},
	{"Self", "Servers", inConfig(`"Client":{"Servers":[`, `"",`, `]}`)},
	{"Self", "Servers wrong", inConfig(`"Client":{"Servers":[`, `1,`, `]}`)},
	{"Self", "Servers null", inConfig(`"Client":{"Servers":[`, `null,`, `]}`)},
	{"Self", "Consuls", inConfig(`"Consuls":[`, `{},`, `]`)},
	{"Self", "Consuls null", inConfig(`"Consuls":[`, `null,`, `]`)},
	{"Self", "Consuls wrong", inConfig(`"Consuls":[`, `0,`, `]`)},
	{"Self", "Vaults", inConfig(`"Vaults":[`, `{},`, `]`)},
	{"Self", "Plugins", inConfig(`"Plugins":[`, `{},`, `]`)},
	{"Self", "KEK", inConfig(`"KEKProviders":[`, `{},`, `]`)},
	{"Self", "Files", inConfig(`"Files":[`, `"",`, `]`)},
	{"Self", "HostVolumes", inConfig(`"Client":{"HostVolumes":[`, `{},`, `]}`)},
	{"Self", "HostNetworks", inConfig(`"Client":{"HostNetworks":[`, `{},`, `]}`)},
	{"Self", "duplicates known", inConfig(``, `"Region":"a",`, ``)},
	{"Self", "unknown list", inConfig(`"X":[`, `1,`, `]`)},
	{"Self", "nest", nested(`{"config":{"X":`, "[", "]", `},"member":{},"stats":{}}`)},
	{"Self", "stats groups", repeat(`{"config":{},"member":{},"stats":{`, keyed("{}"), "}}")},
	{"Self", "stats null", repeat(`{"config":{},"member":{},"stats":{`, keyed("null"), "}}")},
	{"Self", "stats wrong", repeat(`{"config":{},"member":{},"stats":{`, keyed("1"), "}}")},
	{"Self", "stats keys", repeat(`{"config":{},"member":{},"stats":{"a":{`, keyed(`""`), "}}}")},
	{"Self", "stats small", repeat(`{"config":{},"member":{},"stats":{`, func(i int) string { return fmt.Sprintf(`"%x":{"":""}`, i) }, "}}")},
	{"Self", "stats key quadratic", repeat(`{"config":{},"member":{},"stats":{"`, "k", `":{"a":"","b":"","c":""}}}`)},
	{"Self", "long path wrong", func(n int) string {
		return `{"config":{},"member":{},"stats":{"` + strings.Repeat("k", n/2) + `":{` + counted("", keyed("1"), "", n/2) + `}}}`
	}},
	{"Self", "long path wrong few", func(n int) string {
		return `{"config":{},"member":{},"stats":{"` + strings.Repeat("k", n/2) + `":{` + repeated("", `"x":"",`, "", 7) + `,` + counted("", keyed(`""`), "", n/2) + `}}}`
	}},
	{"Self", "member tags", repeat(`{"config":{},"stats":{},"member":{"Tags":{`, keyed(`""`), `}}}`)},
	{"Self", "long number", inConfig(`"Ports":{"HTTP":`, "1", `}`)},
	{"Self", "secret", inConfig(`"ACL":{"ReplicationToken":"`, "a", `"}`)},
	{"Self", "escapes", inConfig(`"Region":"`, `\n`, `"`)},
	{"Self", "escapes duration", inConfig(`"LogRotateDuration":"`, `\n`, `"`)},
	{"Health", "message", repeat(`{"server":{"ok":false,"message":"`, "a", `"}}`)},
	{"Health", "unknown", repeat(`{"server":{"ok":true,"message":"a"},`, keyed(`""`), `}`)},
	{"Join", "error", repeat(`{"num_joined":0,"error":"`, `\n`, `"}`)},
	{"Join", "error lines", repeat(`{"num_joined":0,"error":"`, `1 error occurred:\n\t* a\n\n\n`, `"}`)},
	{"Join", "unknown", repeat(`{"num_joined":1,`, keyed(`""`), `}`)},
	{"ForceLeave", "long", repeat(`{`, keyed(`""`), `}`)},
	{"ForceLeave", "spaces", repeat(``, ` `, ``)},
	{"Host", "env", repeat(`{"HostData":{"Environment":{`, keyed(`""`), `}}}`)},
	{"Host", "disk", repeat(`{"HostData":{"Disk":{`, keyed("{}"), `}}}`)},
	{"Host", "disk null", repeat(`{"HostData":{"Disk":{`, keyed("null"), `}}}`)},
	{"Host", "net", repeat(`{"HostData":{"Network":[`, `{},`, `]}}`)},
	{"Host", "net small", repeat(`{"HostData":{"Network":[`, `{"":""},`, `]}}`)},
	{"Host", "net null", repeat(`{"HostData":{"Network":[`, `null,`, `]}}`)},
	{"Host", "hosts", repeat(`{"HostData":{"Hosts":"`, `\u0000`, `"}}`)},
	{"Schedulers", "{}", repeat(`{"server_id":"a","schedulers":[`, `{},`, `]}`)},
	{"Schedulers", "null", repeat(`{"server_id":"a","schedulers":[`, `null,`, `]}`)},
	{"Schedulers", "enabled", repeat(`{"server_id":"a","schedulers":[{"enabled_schedulers":[`, `"",`, `]}]}`)},
	{"Schedulers", "time", repeat(`{"server_id":"a","schedulers":[{"started":"`, `1`, `"}]}`)},
	{"SchedulerConfig", "enabled", repeat(`{"server_id":"a","enabled_schedulers":[`, `"",`, `]}`)},
	{"SchedulerConfig", "enabled null", repeat(`{"server_id":"a","enabled_schedulers":[`, `null,`, `]}`)},
	{"ListKeys", "keys", repeat(`{"NumNodes":1,"Keys":{`, keyed("1"), `}}`)},
	{"ListKeys", "messages", repeat(`{"NumNodes":1,"Messages":{`, keyed(`""`), `}}`)},
	{"ListKeys", "messages null", repeat(`{"NumNodes":1,"Messages":{`, keyed("null"), `}}`)},
	{"ListKeys", "long key", repeat(`{"NumNodes":1,"Keys":{"`, "a", `":1}}`)},
	{"Monitor", "empty frames", repeat("", "{}", "")},
	{"Monitor", "unknown keys frame", repeat("{", keyed(`""`), "}")},
	{"Monitor", "unknown keys frames", func(n int) string { return strings.Repeat(counted("{", keyed(`""`), "}", 1<<20-100), n>>20) }},
	{"Monitor", "data null", repeat("", `{"Data":null}`, "")},
	{"Monitor", "line", func(n int) string { return strings.Repeat(testkit.Frame(strings.Repeat("x", 60000)), n/80000) }},
	{"Monitor", "json keys line", func(n int) string {
		f := testkit.Frame(counted("{", keyed("1"), "}\n", 700_000))
		return strings.Repeat(f, max(n/len(f), 1))
	}},
	{"Monitor", "json small objects", func(n int) string {
		f := testkit.Frame(repeated(`{"a":[`, `{"":0},`, "]}\n", 700_000))
		return strings.Repeat(f, max(n/len(f), 1))
	}},
	{"Monitor", "json numbers", func(n int) string {
		f := testkit.Frame(repeated(`{"a":[`, `1,`, "]}\n", 700_000))
		return strings.Repeat(f, max(n/len(f), 1))
	}},
	{"Profile", "x", repeat("", "x", "")},
}
