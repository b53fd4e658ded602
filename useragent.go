package nomad

import (
	"cmp"
	"runtime/debug"
	"strings"
)

const modulePath = "github.com/nomad-go/nomad"

// defaultUserAgent has the name of this library and, if the program was built with modules, its version.
var defaultUserAgent = "nomad-go/" + cmp.Or(version(), "devel") + " (" + modulePath + ")"

// version returns the version of this module in the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == modulePath {
			return strings.Trim(module.Version, "()v")
		}
	}
	return ""
}
