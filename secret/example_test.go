package secret_test

import (
	"fmt"

	"github.com/nomad-go/nomad/secret"
)

func ExampleNew() {
	token := secret.New("s3cr3t")
	fmt.Println(token)
	fmt.Println(token.Reveal())
	// Output:
	// <redacted>
	// s3cr3t
}
