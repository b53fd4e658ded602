package agentconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/secret"
)

const planted = "hunter2"

// plant puts a secret into every field that may hold one, and fills all pointers and lists. It calls visit for each
// block.
func plant(v reflect.Value, visit func(reflect.Value)) {
	switch value := v.Addr().Interface().(type) {
	case *secret.Secret:
		*value = secret.New(planted)
		return
	case *Endpoint:
		*value = NewEndpoint("https://user:" + planted + "@example.org:1/?token=" + planted)
		return
	case *Setting:
		*value = Setting{secret.New(`{"password":"` + planted + `"}`)}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		plant(v.Elem(), visit)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		plant(v.Index(0), visit)
	case reflect.Map:
		element := reflect.New(v.Type().Elem()).Elem()
		plant(element, visit)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), element)
	case reflect.Struct:
		if isBlock(v.Type()) {
			for field, value := range v.Fields() {
				if field.IsExported() {
					plant(value, visit)
				}
			}
		}
		visit(v)
	}
}

// TestSecretsAreNotPrinted plants a secret in every field of every block that may hold one, and prints the blocks.
func TestSecretsAreNotPrinted(t *testing.T) {
	blocks := 0
	c := new(Config)
	c.raw = new(`{"New":"` + planted + `"}`)
	plant(reflect.ValueOf(c).Elem(), func(v reflect.Value) {
		blocks++
		for _, value := range []any{v.Interface(), v.Addr().Interface(), []any{v.Interface()}} {
			name := fmt.Sprintf("%T", value)
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				text := fmt.Sprintf(verb, value)
				if verb == "%v" || verb == "%+v" {
					assert.NotContains(t, text, "0xc0", "%s: an address", name)
				}
				check(t, text, name+" "+verb)
			}
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "value", value)
			slog.New(slog.NewTextHandler(&log, nil)).Info("a", "value", value)
			check(t, log.String(), name+" log")
			encoded, err := json.Marshal(value)
			require.NoError(t, err, name)
			check(t, string(encoded), name+" json")
			encoded, err = jsonv2.Marshal(value)
			require.NoError(t, err, name)
			check(t, string(encoded), name+" json/v2")
		}
	})
	assert.Greater(t, blocks, 50)
	for _, v := range []any{
		struct{ c Config }{*c}, struct{ c *Config }{c}, struct{ c Consul }{c.Consuls[0]}, struct{ p Plugin }{c.Plugins[0]},
	} {
		check(t, fmt.Sprintf("%v %+v %#v %x %s %d", v, v, v, v, v, v), "in a field that is not exported")
	}
	for _, d := range Diff(c, new(Config)) {
		check(t, fmt.Sprintf("%v %+v", d, d), d.Path)
	}
	assert.Equal(t, planted, c.ACL.ReplicationToken.Reveal())
}

func check(t *testing.T, text, what string) {
	t.Helper()
	hex, bytes := fmt.Sprintf("%x", planted), strings.Trim(fmt.Sprint([]byte(planted)), "[]")
	for _, form := range []string{planted, hex, strings.ToUpper(hex), bytes} {
		assert.NotContains(t, text, form, what)
	}
}

func TestEndpointHidesSecretParts(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"127.0.0.1:8500":                  "127.0.0.1:8500",
		"[fe80::1%eth0]:4648":             "[fe80::1%eth0]:4648",
		"https://vault.service.consul:82": "https://vault.service.consul:82",
		"https://ops:hunter2@vault:8200/": "https://<redacted>@vault:8200/",
		"https://ops:hun@ter2@vault:8200": "https://<redacted>@vault:8200",
		"ops:hunter2@consul:8500":         "<redacted>@consul:8500",
		"http://trap/x?token=hunter2":     "http://trap/x?<redacted>",
		"provider=aws tag_key=a secret_access_key=hunter2": "provider=aws <redacted>",
		`secret_access_key=hunter2 provider="aws"`:         "provider=aws <redacted>",
		"token=hunter2": "<redacted>",
	} {
		assert.Equal(t, want, NewEndpoint(text).String())
		assert.Equal(t, text, NewEndpoint(text).Reveal())
		encoded, err := json.Marshal(NewEndpoint(text))
		require.NoError(t, err)
		var shown string
		require.NoError(t, json.Unmarshal(encoded, &shown))
		assert.Equal(t, want, shown)
	}
}
