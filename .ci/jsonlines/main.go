// Jsonlines fails unless standard input is a sequence of JSON values, one or more.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	count := 0
	for decoder := json.NewDecoder(os.Stdin); ; count++ {
		var value any
		if err := decoder.Decode(&value); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "jsonlines:", err)
			os.Exit(1)
		}
	}
	if count == 0 {
		fmt.Fprintln(os.Stderr, "jsonlines: nothing came")
		os.Exit(1)
	}
	fmt.Println(count, "JSON values")
}
