package agentconfig

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/internal/show"
)

// Blocks are marshalled and printed here, so that all do it alike: package fmt would print addresses and text that does
// not print, json/v2 refuses durations, and encoding/json encodes a list that is not set as another value than json/v2.

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ACL) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ACL) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Addresses) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Addresses) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Artifact) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Artifact) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Audit) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Audit) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b AuditFilter) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b AuditFilter) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b AuditSink) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// String returns what MarshalJSON returns. There is no method Format, because the struct has a field of that name.
func (b AuditSink) String() string {
	text, _ := b.MarshalJSON()
	return show.Text(text)
}

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Autopilot) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Autopilot) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Client) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Client) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ClientIntroduction) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ClientIntroduction) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Consul) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Consul) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Drain) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Drain) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Eventlog) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Eventlog) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Fingerprint) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Fingerprint) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b HostNetwork) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b HostNetwork) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b HostVolume) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b HostVolume) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Identity) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Identity) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b KEKProvider) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b KEKProvider) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Limits) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Limits) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b PlanRejectionTracker) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b PlanRejectionTracker) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Plugin) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Plugin) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Ports) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Ports) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Preemption) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Preemption) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RPC) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RPC) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftBolt) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftBolt) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftLogStore) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftLogStore) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftVerification) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftVerification) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftWAL) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftWAL) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Reporting) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Reporting) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ReportingLicense) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ReportingLicense) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Reserved) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Reserved) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Retry) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Retry) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b SchedulerConfig) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b SchedulerConfig) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Search) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Search) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Sentinel) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Sentinel) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b SentinelImport) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b SentinelImport) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Server) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Server) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ServerJoin) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ServerJoin) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b TLS) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b TLS) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Telemetry) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Telemetry) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Template) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Template) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b UI) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b UI) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b UIContentSecurityPolicy) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b UIContentSecurityPolicy) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b UILabel) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b UILabel) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b UILink) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b UILink) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Users) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Users) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Vault) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Vault) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Wait) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Wait) Format(f fmt.State, _ rune) { format(f, b) }

func format(f fmt.State, block json.Marshaler) {
	text, _ := block.MarshalJSON()
	io.WriteString(f, show.Text(text))
}

// marshal encodes a value as Nomad does, a block with all its fields.
func marshal(v reflect.Value) ([]byte, error) {
	var b bytes.Buffer
	err := encode(jsontext.NewEncoder(&b, jsontext.AllowInvalidUTF8(true)), v, "")
	return bytes.TrimSpace(b.Bytes()), err
}

// encode writes the value of a field that has a tag. A duration is a number of nanoseconds, with wire:"text" a string.
func encode(enc *jsontext.Encoder, v reflect.Value, tag reflect.StructTag) error {
	if d, ok := v.Interface().(time.Duration); ok {
		if tag.Get("wire") == "text" {
			return enc.WriteToken(jsontext.String(durationText(d)))
		}
		return enc.WriteToken(jsontext.Int(int64(d)))
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if v.IsNil() {
			return enc.WriteToken(jsontext.Null)
		}
	}
	switch {
	case v.Kind() == reflect.Pointer:
		return encode(enc, v.Elem(), tag)
	case v.Kind() == reflect.Slice:
		err := enc.WriteToken(jsontext.BeginArray)
		for i := 0; i < v.Len() && err == nil; i++ {
			err = encode(enc, v.Index(i), "")
		}
		return cmp.Or(err, enc.WriteToken(jsontext.EndArray))
	case isBlock(v.Type()):
		err := enc.WriteToken(jsontext.BeginObject)
		for field, value := range v.Fields() {
			if !field.IsExported() || err != nil {
				continue
			}
			err = cmp.Or(enc.WriteToken(jsontext.String(field.Name)), encode(enc, value, field.Tag))
		}
		return cmp.Or(err, enc.WriteToken(jsontext.EndObject))
	}
	return json.MarshalEncode(enc, v.Interface(), json.Deterministic(true)) // values of maps are strings
}

// isBlock reports whether a type is a struct with fields, and not a value such as a secret.
func isBlock(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// durationText returns a duration as operators write it, such as 30m instead of 30m0s, and nothing for 0.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
