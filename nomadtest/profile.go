package nomadtest

import (
	"bytes"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// serveProfile answers pprof/ with profiles of the process that the agents are in. It is called without the lock.
func (a *Agent) serveProfile(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	name := strings.TrimPrefix(r.URL.Path, profilePath)
	if name == "" {
		return invalidMethod(404)
	}
	target, err := a.streamTarget(r)
	if f, ok := err.(*fault); ok && strings.HasPrefix(f.text, "RPC Error:: 404,") {
		return faultf(404, "%s", strings.TrimPrefix(f.text, "RPC Error:: 404,"))
	} else if err != nil {
		return err
	}
	seconds, _ := strconv.Atoi(query.Get("seconds"))
	debug, _ := strconv.Atoi(query.Get("debug"))
	wait := func() {
		select {
		case <-time.After(time.Duration(max(seconds, 1)) * time.Second):
		case <-r.Context().Done():
		}
	}
	var body bytes.Buffer
	contentType := "application/octet-stream"
	switch name {
	case "cmdline":
		contentType = "text/plain; charset=utf-8"
		body.WriteString("/usr/bin/nomad agent -config " + target.name + ".hcl")
	case "profile":
		if err := pprof.StartCPUProfile(&body); err != nil {
			return err
		}
		wait()
		pprof.StopCPUProfile()
	case "trace":
		if err := trace.Start(&body); err != nil {
			return err
		}
		wait()
		trace.Stop()
	default:
		profile := pprof.Lookup(name)
		if profile == nil {
			return faultf(404, "Pprof profile not found profile: %s", name)
		}
		if query.Get("gc") == "1" {
			runtime.GC()
		}
		if debug > 0 {
			contentType = "text/plain; charset=utf-8"
		}
		if err := profile.WriteTo(&body, debug); err != nil {
			return err
		}
	}
	if contentType == "application/octet-stream" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body.Bytes())
	return nil
}
