package body

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Explain returns the message of an error of a decoder, with the whole place of the error. The decoder itself cuts it in
// the middle, where a secret that is cut too cannot be found.
func Explain(err error) string {
	var place jsontext.Pointer
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &semantic):
		inner := *semantic
		place, inner.JSONPointer = inner.JSONPointer, ""
		err = &inner
	case errors.As(err, &syntax):
		inner := *syntax
		place, inner.JSONPointer = inner.JSONPointer, ""
		err = &inner
	}
	if place == "" {
		return err.Error()
	}
	return fmt.Sprintf("%s within %q", err, place)
}
