package nomad

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A list of members is the answer that people ask for most, and the one that grows. It is read without reflection, and
// what members have in common, which is most of what they say, is kept once.

// memberReader reads members.
type memberReader struct {
	*textReader
	likely int // how many members there are
	tagged int // how many tags the last one had
	chunk  strings.Builder
}

// maxTagsAtOnce is how many tags room is made for at once. Servers have about twelve.
const maxTagsAtOnce = 14

// parseMembers is the parser of Members.
func parseMembers(ctx context.Context, body []byte, m *Members) error {
	return tokens(ctx, body, func(text *textReader) error {
		r := &memberReader{textReader: text, likely: min(bytes.Count(body, []byte("{"))/2, len(body)/bytesPerObject)}
		return r.pool(m)
	})
}

// pool reads the answer as a whole.
func (r *memberReader) pool(m *Members) error {
	if err := r.begin('{', "the answer"); err != nil {
		return err
	}
	var seen, field uint
	for r.PeekKind() == '"' {
		name, err := r.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "ServerName":
			field = 1 << 0
			m.ServerName, err = r.textOf("ServerName")
		case "ServerRegion":
			field = 1 << 1
			m.ServerRegion, err = r.textOf("ServerRegion")
		case "ServerDC":
			field = 1 << 2
			m.ServerDC, err = r.textOf("ServerDC")
		case "Members":
			field = 1 << 3
			m.Members, err = r.list()
		default:
			field = 0
			err = r.SkipValue()
		}
		switch {
		case err != nil:
			return err
		case seen&field != 0:
			return errTwice
		}
		seen |= field
	}
	_, err := r.ReadToken()
	return err
}

// list reads the members.
func (r *memberReader) list() ([]Member, error) {
	if r.PeekKind() == 'n' {
		return nil, r.SkipValue()
	}
	if err := r.begin('[', "a list of members"); err != nil {
		return nil, err
	}
	members := make([]Member, 0, r.likely)
	for r.PeekKind() != ']' {
		members = append(members, Member{})
		if err := r.member(&members[len(members)-1]); err != nil {
			return nil, err
		}
	}
	_, err := r.ReadToken()
	return members, err
}

// member reads one member.
func (r *memberReader) member(m *Member) error {
	if err := r.begin('{', "a member"); err != nil {
		return err
	}
	var seen, field uint
	for r.PeekKind() == '"' {
		name, err := r.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "Name":
			field = 1 << 0
			m.Name, err = r.ownText("Name")
		case "Status":
			field = 1 << 1
			var status string
			status, err = r.textOf("Status")
			m.Status = MemberStatus(status)
		case "Addr":
			field = 1 << 2
			m.Addr, err = r.addr()
		case "Port":
			field = 1 << 3
			var port uint64
			port, err = r.number("Port", 16)
			m.Port = uint16(port)
		case "Tags":
			field = 1 << 4
			m.Tags, err = r.tags()
		case "ProtocolMin":
			field = 1 << 5
			err = r.version("ProtocolMin", &m.ProtocolMin)
		case "ProtocolMax":
			field = 1 << 6
			err = r.version("ProtocolMax", &m.ProtocolMax)
		case "ProtocolCur":
			field = 1 << 7
			err = r.version("ProtocolCur", &m.ProtocolCur)
		case "DelegateMin":
			field = 1 << 8
			err = r.version("DelegateMin", &m.DelegateMin)
		case "DelegateMax":
			field = 1 << 9
			err = r.version("DelegateMax", &m.DelegateMax)
		case "DelegateCur":
			field = 1 << 10
			err = r.version("DelegateCur", &m.DelegateCur)
		default:
			field = 0
			err = r.SkipValue()
		}
		switch {
		case err != nil:
			return err
		case seen&field != 0:
			return errTwice
		}
		seen |= field
	}
	_, err := r.ReadToken()
	return err
}

// tags reads the tags of a member.
func (r *memberReader) tags() (map[string]string, error) {
	if r.PeekKind() == 'n' {
		return nil, r.SkipValue()
	}
	if err := r.begin('{', "the tags of a member"); err != nil {
		return nil, err
	}
	tags := make(map[string]string, min(r.tagged, maxTagsAtOnce))
	for n := 1; r.PeekKind() == '"'; n++ {
		name, err := r.ReadValue()
		if err != nil {
			return nil, err
		}
		key := tagName(name)
		switch key {
		case "":
			key = r.string(name)
			tags[key], err = r.textOf("a tag")
		case "id":
			tags[key], err = r.ownText("the tag id")
		default:
			tags[key], err = r.textOf("a tag")
		}
		if err != nil {
			return nil, err
		}
		if len(tags) != n {
			return nil, errTwice
		}
	}
	r.tagged = len(tags)
	_, err := r.ReadToken()
	return tags, err
}

// tagName is the name of a tag that servers have, or nothing.
func tagName(quoted []byte) string {
	switch string(quoted[1 : len(quoted)-1]) {
	case "id":
		return "id"
	case "dc":
		return "dc"
	case "vsn":
		return "vsn"
	case "port":
		return "port"
	case "role":
		return "role"
	case "build":
		return "build"
	case "expect":
		return "expect"
	case "region":
		return "region"
	case "raft_vsn":
		return "raft_vsn"
	case "revision":
		return "revision"
	case "rpc_addr":
		return "rpc_addr"
	case "bootstrap":
		return "bootstrap"
	}
	return ""
}

// addr reads the address of a member, which those that are none have not.
func (r *memberReader) addr() (netip.Addr, error) {
	text, err := r.textOf("Addr") // which is often that of the tag rpc_addr too
	if err != nil || text == "" {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(text)
}

// version reads the version of a protocol.
func (r *memberReader) version(name string, to *uint8) error {
	n, err := r.number(name, 8)
	*to = uint8(n)
	return err
}

// number reads a number of so many bits.
func (r *memberReader) number(name string, bits int) (uint64, error) {
	value, err := r.value(name, '0')
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) == 1 {
		return uint64(value[0] - '0'), nil
	}
	n, err := strconv.ParseUint(string(value), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of %d bits", name, bits)
	}
	return n, nil
}

// textOf reads a string.
func (r *memberReader) textOf(name string) (string, error) {
	value, err := r.value(name, '"')
	if err != nil || value == nil {
		return "", err
	}
	return r.string(value), nil
}

// ownText reads a string that no other member has. Such strings share their memory with their neighbours.
func (r *memberReader) ownText(name string) (string, error) {
	value, err := r.value(name, '"')
	if err != nil || value == nil {
		return "", err
	}
	text := r.unquote(value)
	if len(text) > maxShared {
		return string(text), nil
	}
	if r.chunk.Cap()-r.chunk.Len() < len(text) {
		r.chunk = strings.Builder{}
		r.chunk.Grow(min(chunkSize, maxShared*(r.likely+1)))
	}
	at := r.chunk.Len()
	r.chunk.Write(text)
	return r.chunk.String()[at:], nil
}

// chunkSize is how many bytes of strings share their memory, and so the most that one which is kept can hold back.
const chunkSize = 4 << 10

// value reads a value of a kind, as it is, and gives nil for null. It is valid until something else is read.
func (r *memberReader) value(name string, want jsontext.Kind) (jsontext.Value, error) {
	value, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	if kind := value.Kind(); kind != want {
		if kind == 'n' {
			return nil, nil
		}
		return nil, wrongKind(kind, name, want)
	}
	return value, nil
}
