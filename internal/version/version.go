// Package version finds the version of this module.
package version

import (
	"runtime/debug"
	"strings"
)

const modulePath = "github.com/nomad-go/nomad"

// UserAgent has the name of this library and, if the program was built with modules, its version.
var UserAgent = "nomad-go/" + find() + " (" + modulePath + ")"

func find() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, module := range append(info.Deps, &info.Main) {
		if version := strings.Trim(module.Version, "()v"); module.Path == modulePath && version != "" {
			return version
		}
	}
	return "devel"
}
