package acceptance_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16") // most tests wait; the flag -parallel overrides it
	goleak.VerifyTestMain(m)
}
