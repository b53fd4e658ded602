package agentconfig

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Blocks that have pointers or durations are marshalled and printed here: package fmt would print addresses, and
// json/v2 refuses durations.

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ACL) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ACL) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Artifact) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Artifact) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Audit) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Audit) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b AuditSink) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

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
func (b Fingerprint) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Fingerprint) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Identity) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Identity) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Limits) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Limits) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b PlanRejectionTracker) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b PlanRejectionTracker) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RPC) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RPC) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftLogStore) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftLogStore) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b RaftVerification) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b RaftVerification) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Reporting) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Reporting) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b ReportingLicense) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b ReportingLicense) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Retry) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Retry) Format(f fmt.State, _ rune) { format(f, b) }

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
func (b Vault) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Vault) Format(f fmt.State, _ rune) { format(f, b) }

// MarshalJSON returns the block with the names and shapes of Nomad, secrets as "<redacted>".
func (b Wait) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(b)) }

// Format prints what MarshalJSON returns, whatever the verb.
func (b Wait) Format(f fmt.State, _ rune) { format(f, b) }

func format(f fmt.State, block json.Marshaler) {
	text, _ := block.MarshalJSON()
	f.Write(text)
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
