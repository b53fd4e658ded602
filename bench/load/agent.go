package main

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad/nomadtest"
)

// agent is the agent of one row.
type agent struct {
	address  string
	stop     func()
	mostOpen func() int // connections at once, up to now
}

// startAgent starts an agent in memory or a real one, or takes that of NOMAD_ADDR.
func startAgent(ctx context.Context, real bool) (*agent, error) {
	if address := os.Getenv("NOMAD_ADDR"); address != "" {
		time.Sleep(11 * time.Second) // so that the agent can answer 100 refusals again
		return watched(address, func() {})
	}
	if real {
		process, err := nomadtest.StartProcess(ctx, nomadtest.Servers(1))
		if err != nil {
			return nil, err
		}
		return watched(process.URL(), process.Close)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.Command(self, "-be-agent")
	child.Stderr = os.Stderr
	asked, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	answers := bufio.NewScanner(output)
	if !answers.Scan() {
		return nil, fmt.Errorf("the agent did not start")
	}
	return &agent{
		address: answers.Text(),
		stop:    func() { asked.Close(); child.Wait() },
		mostOpen: func() int {
			fmt.Fprintln(asked)
			answers.Scan()
			n, _ := strconv.Atoi(answers.Text())
			return n
		},
	}, nil
}

// beAgent runs an agent in memory until standard input ends, and answers each line there with how many connections it had
// at most.
func beAgent() error {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	fmt.Println(cluster.Agents()[0].URL())
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		_, most := cluster.Agents()[0].Connections()
		fmt.Println(most)
	}
	return nil
}

// watched counts the connections to an agent that cannot be asked, 200 times a second, where the system is Linux.
func watched(address string, stop func()) (*agent, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, fmt.Errorf("the address %q has no port", address)
	}
	var most atomic.Int64
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				most.Store(max(most.Load(), established(port)))
			}
		}
	}()
	return &agent{
		address:  address,
		stop:     func() { close(done); stop() },
		mostOpen: func() int { return int(most.Load()) },
	}, nil
}

// established counts the connections to a port that Linux lists as established. It cannot tell those that the agent is
// about to refuse from those that it took.
func established(port int) (n int64) {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return 0
	}
	defer file.Close()
	remote := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && strings.HasSuffix(fields[2], remote) && fields[3] == "01" {
			n++
		}
	}
	return n
}
