package nomad

import "github.com/nomad-go/nomad/secret"

// Secret is a string that must not be printed or logged by accident: see package secret.
type Secret = secret.Secret

// NewSecret returns text as a Secret. An empty text gives the zero Secret.
func NewSecret(text string) Secret { return secret.New(text) }
