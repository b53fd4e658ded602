package body

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
)

// FuzzHeaders sets arbitrary values in the headers that a client interprets.
func FuzzHeaders(f *testing.F) {
	for _, value := range []string{"", "gzip, br", "application/json; charset=\"", "a/b; c"} {
		f.Add(value, value)
	}
	f.Fuzz(func(t *testing.T, kind, encoding string) {
		h := http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}}
		r, err := Decompress(h, http.NoBody)
		if (err == nil) != (r != nil) {
			t.Fatalf("%v %v", r, err)
		}
		_ = MediaType(h)
	})
}

func TestExplain(t *testing.T) {
	var out map[string]map[string]int
	name := strings.Repeat("long", 100)
	for _, document := range []string{`{"` + name + `":{"a":"x"}}`, `{"` + name + `":{"a":}}`} {
		err := json.Unmarshal([]byte(document), &out)
		assert.NotContains(t, err.Error(), name, "the decoder truncates the name")
		assert.Contains(t, Explain(fmt.Errorf("x: %w", err)), name)
	}
	assert.Equal(t, "other", Explain(errors.New("other")))
}

func TestPages(t *testing.T) {
	for _, page := range []string{"<html>", " \n<!DOCTYPE html>", "\ufeff<?xml?>"} {
		assert.ErrorContains(t, CheckNoPage([]byte(page)), "web page")
		assert.ErrorContains(t, CheckValue([]byte(page)), "web page")
		assert.ErrorContains(t, CheckEmpty([]byte(page)), "web page")
	}
	assert.NoError(t, CheckNoPage([]byte(`{"a":"<html>"}`)))
}
