package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/bench/internal/crew"
)

// cpu measures the CPU time that calls cost a real agent.
var cpu = group{
	name: "cpu",
	columns: []column{
		{key: "agent_us", title: "agent's µs per call", digits: 1},
		{key: "calls_per_second", title: "calls/s"},
		{key: "calls", title: "calls"},
		{key: "failed", title: "failed", worst: true},
		{key: "idle_percent", title: "agent's % when idle", digits: 1},
	},
	rows: []row{
		{"nomad-go", "16 goroutines, Members", costOf("nomad-go")},
		{"official", "16 goroutines, Members, the official client", costOf("official")},
	},
}

const (
	cpuCalls = 20_000
	idleTime = 5 * time.Second
)

// costOf measures the CPU time of a real agent during calls, minus its CPU time when idle.
func costOf(client string) func(context.Context, options) (figures, string, error) {
	return func(ctx context.Context, _ options) (figures, string, error) {
		agent, err := crew.StartReal(ctx)
		if err != nil {
			return nil, "", err
		}
		defer agent.Stop()
		pid, err := childOf(os.Getpid(), os.Getenv("NOMAD_BIN"))
		if err != nil {
			return nil, "", err
		}
		job := crew.Job{Facts: agent.Facts, Client: client, Goroutines: 16, Calls: cpuCalls / 20, For: 5 * time.Minute}
		if _, err := crew.Work(ctx, []crew.Job{job}, nil); err != nil { // warm up
			return nil, "", err
		}
		idle, err := busy(pid, func() error { time.Sleep(idleTime); return nil })
		if err != nil {
			return nil, "", err
		}
		job.Calls = cpuCalls
		var results []crew.Result
		used, err := busy(pid, func() (err error) {
			results, err = crew.Work(ctx, []crew.Job{job}, nil)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		sum := crew.Sum(results)
		share := idle.Seconds() / idleTime.Seconds()
		return figures{
			"agent_us":         1e6 * (used.Seconds() - share*sum.Took.Seconds()) / float64(max(sum.Calls(), 1)),
			"calls_per_second": float64(sum.Calls()-sum.Failures) / sum.Took.Seconds(),
			"calls":            float64(sum.Calls()),
			"failed":           float64(sum.Failures),
			"idle_percent":     100 * share,
		}, sum.Error(), nil
	}
}

// busy returns the CPU time of a process while do runs.
func busy(pid int, do func() error) (time.Duration, error) {
	before, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := processorTime(pid)
	return after - before, err
}

// tick is the time unit in /proc. It is the same on all Linux machines that Go supports.
const tick = time.Second / 100

// processorTime returns the CPU time that a process has used.
func processorTime(pid int) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// childOf returns the child process that runs a program.
func childOf(parent int, program string) (int, error) {
	wanted, err := filepath.EvalSymlinks(program)
	if err != nil {
		return 0, err
	}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil || fields[1] != strconv.Itoa(parent) {
			continue // it has exited, or has another parent
		}
		if exe, err := os.Readlink(folder + "/exe"); err == nil && exe == wanted {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process of %s was found in /proc", program)
}

// stat returns the fields of /proc/PID/stat, starting with the state.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return fields, nil
}
