package watch

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// TestOfMany polls a large pool that does not change.
func TestOfMany(t *testing.T) {
	pool := map[string]nomad.Member{}
	for i := range 10_000 {
		name := fmt.Sprint("server-", i, ".global")
		pool[name] = nomad.Member{Name: name, Status: nomad.StatusAlive, Tags: map[string]string{"region": "global", "id": name}}
	}
	w := membersWatcher(func(MemberEvent) bool { return true })
	w.settle, w.interval, w.unrest = time.Second, time.Second, map[subject]unrest{}
	w.learn(pool, time.Now(), false)
	assert.Less(t, testing.AllocsPerRun(5, func() { w.learn(pool, time.Now(), false) }), 10.)
}

// TestChangedIn changes each field of a member.
func TestChangedIn(t *testing.T) {
	typ := reflect.TypeFor[nomad.Member]()
	for i := range typ.NumField() {
		a, b := nomad.Member{}, nomad.Member{}
		want := typ.Field(i).Name
		switch field := reflect.ValueOf(&b).Elem().Field(i); {
		case want == "Name":
			continue
		case want == "Tags":
			b.Tags, want = map[string]string{"build": ""}, "Tags.build"
		case want == "Addr":
			b.Addr = netip.MustParseAddr("10.0.0.1")
		case field.CanUint():
			field.SetUint(1)
		default:
			require.Equal(t, reflect.String, field.Kind(), want)
			field.SetString("x")
		}
		assert.Equal(t, []string{want}, changedIn(a, b))
		assert.Equal(t, []string{want}, changedIn(b, a))
		assert.Empty(t, changedIn(b, b))
	}
}
