package redact

import (
	"errors"
	"fmt"
	"io"
)

// Error returns an error with another message. What it wraps can be matched; if its own message had to be cleaned, code
// that prints errors layer by layer does not reach that.
func Error(message, cleaned string, cause error) error {
	if cleaned != cause.Error() {
		cause = &sealedError{cleaned, cause}
	}
	return &cleanError{message, cause}
}

// IsError reports whether an error is one that Error returned.
func IsError(err error) bool {
	_, ok := err.(*cleanError)
	return ok
}

type cleanError struct {
	message string
	cause   error
}

func (e *cleanError) Error() string              { return e.message }
func (e *cleanError) Unwrap() error              { return e.cause }
func (e *cleanError) Format(f fmt.State, _ rune) { io.WriteString(f, e.message) }

type sealedError struct {
	message string
	cause   error
}

func (e *sealedError) Error() string              { return e.message }
func (e *sealedError) Is(target error) bool       { return errors.Is(e.cause, target) }
func (e *sealedError) As(target any) bool         { return errors.As(e.cause, target) }
func (e *sealedError) Format(f fmt.State, _ rune) { io.WriteString(f, e.message) }
