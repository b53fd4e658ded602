package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"NOMAD_ADDR", "NOMAD_UNIX_ADDR", "NOMAD_TOKEN", "NOMAD_REGION", "NOMAD_NAMESPACE"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

// program runs the program and returns its exit code and output. An error is part of stderr, as in main.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code, err := run(t.Context(), args, &out, &errs)
	if err != nil {
		fmt.Fprintln(&errs, "exporter:", err)
	}
	return code, out.String(), errs.String()
}

// exporterOf returns an exporter of a cluster and its log.
func exporterOf(t *testing.T, cluster *nomadtest.Cluster, opts ...nomad.Option) (*exporter, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	byName := map[string]string{}
	for _, agent := range cluster.Agents() {
		byName[agent.MemberName()] = agent.URL()
	}
	client := cluster.Client("server-1", append([]nomad.Option{nomad.WithRetries(0)}, opts...)...)
	t.Cleanup(func() { client.Close() })
	return newExporter(t.Context(), client, slog.New(slog.NewTextHandler(&log, nil)), 9*time.Second, 0,
		survey.WithAddress(func(m nomad.Member) string { return byName[m.Name] })), &log
}

// series returns the value of each series, by its name and labels as in the text format.
func series(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return values(families)
}

func values(families []*dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

// has checks the values of series. A negative value means that there is no such series.
func has(t *testing.T, got, want map[string]float64) {
	t.Helper()
	failed := false
	for name, value := range want {
		if is, ok := got[name]; value < 0 && ok || value >= 0 && (!ok || is != value) {
			t.Errorf("%s: got %v %t, want %v", name, is, ok, value)
			failed = true
		}
	}
	if failed {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			t.Log(name, got[name])
		}
	}
}

func TestDemo(t *testing.T) {
	code, page, stderr := program(t, "-demo", "-once")
	if code != 0 || !strings.HasPrefix(stderr, "exporter: -demo: using a cluster in memory\n") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	got := values(slices.Collect(maps.Values(parsed)))
	has(t, got, map[string]float64{
		`nomad_up`: 1,
		`nomad_cluster_members{build="2.0.5",region="global",status="alive"}`:                         1,
		`nomad_cluster_members{build="1.11.3",region="global",status="alive"}`:                        1,
		`nomad_cluster_members{build="2.0.5",region="global",status="failed"}`:                        1,
		`nomad_cluster_disagreements`:                                                                 0,
		`nomad_region_leaders{region="global"}`:                                                       1,
		`nomad_region_builds{region="global"}`:                                                        2,
		`nomad_server_up{region="global",server="server-1.global"}`:                                   1,
		`nomad_server_up{region="global",server="server-2.global"}`:                                   0,
		`nomad_server_alive{region="global",server="server-2.global"}`:                                0,
		`nomad_server_healthy{region="global",server="server-1.global"}`:                              1,
		`nomad_server_healthy{region="global",server="server-2.global"}`:                              -1,
		`nomad_server_leader{region="global",server="server-1.global"}`:                               1,
		`nomad_server_leader{region="global",server="server-3.global"}`:                               0,
		`nomad_server_info{build="1.11.3",datacenter="dc1",region="global",server="server-3.global"}`: 1,
		`nomad_server_last_contact_seconds{region="global",server="server-1.global"}`:                 0,
		`nomad_server_last_contact_seconds{region="global",server="server-2.global"}`:                 -1,
		`nomad_exporter_surveys_total`:                                                                1,
		`nomad_exporter_errors_total{part="members"}`:                                                 0,
		`nomad_exporter_errors_total{part="server"}`:                                                  1,
		`nomad_exporter_errors_total{part="stats"}`:                                                   0,
	})
	for _, name := range []string{
		`nomad_server_last_contact_seconds{region="global",server="server-3.global"}`,
		`nomad_server_response_duration_seconds{region="global",server="server-2.global"}`,
		`nomad_exporter_survey_duration_seconds`, `nomad_exporter_survey_timestamp_seconds`,
	} {
		if got[name] <= 0 {
			t.Errorf("%s: got %v, want more than 0", name, got[name])
		}
	}
	promtool(t, page, "check", "metrics")
}

func TestConventions(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	e, _ := exporterOf(t, cluster)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if got := testutil.CollectAndCount(e); got != 18 { // 16 metrics; one of them has 3 series
		t.Errorf("got %d series, want 18", got)
	}
}

func TestOutages(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Servers(1, nomadtest.Region("eu")))
	defer cluster.Close()
	cluster.Agent("server-1").TakeLead()
	e, log := exporterOf(t, cluster)

	cluster.Partition("server-3")
	cluster.Agent("server-4").Stop()
	has(t, series(t, e), map[string]float64{
		`nomad_region_leaders{region="global"}`:                          1,
		`nomad_region_leaders{region="eu"}`:                              -1,
		`nomad_region_builds{region="eu"}`:                               0,
		`nomad_cluster_disagreements`:                                    3, // server-1, server-2 and server-3
		`nomad_server_up{region="global",server="server-3.global"}`:      1,
		`nomad_server_alive{region="global",server="server-3.global"}`:   0,
		`nomad_server_healthy{region="global",server="server-3.global"}`: 0,
		`nomad_server_up{region="eu",server="server-4.eu"}`:              0,
		`nomad_exporter_errors_total{part="server"}`:                     1,
	})
	series(t, e)
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "msg=failed part=server server=server-4.eu") {
		t.Errorf("the failure must be logged once: %s", log)
	}

	log.Reset()
	cluster.Agent("server-1").Stop()
	has(t, series(t, e), map[string]float64{
		`nomad_up`:                    0,
		`nomad_cluster_disagreements`: -1,
		`nomad_server_up{region="global",server="server-2.global"}`: -1,
		`nomad_exporter_errors_total{part="members"}`:               1,
		`nomad_exporter_surveys_total`:                              3,
	})
	cluster.Heal()
	cluster.Agent("server-1").Start()
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Stop()
	for end := time.Now().Add(10 * time.Second); series(t, e)["nomad_up"] != 1 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // connections from before the restart may be lost first
	}
	has(t, series(t, e), map[string]float64{
		`nomad_up`:                              1,
		`nomad_region_leaders{region="global"}`: 0,
		`nomad_server_leader{region="global",server="server-1.global"}`:  0,
		`nomad_server_healthy{region="global",server="server-1.global"}`: 0,
	})
	cluster.Agent("server-4").Start()
	series(t, e)
	for _, want := range []string{`msg=failed part=members`, `msg="does not fail any more" part=members`,
		`msg=failed part=server server=server-2.global`, `msg="does not fail any more" part=server server=server-4.eu`} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%q must be logged once: %s", want, log)
		}
	}
}

func TestTokens(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2), nomadtest.ACLs())
	defer cluster.Close()
	for token, want := range map[string]map[string]float64{
		nomadtest.ManagementToken: {`nomad_exporter_errors_total{part="stats"}`: 0, `nomad_up`: 1},
		nomadtest.NodeReadToken: {
			`nomad_exporter_errors_total{part="stats"}`: 2, `nomad_up`: 1,
			`nomad_server_last_contact_seconds{region="global",server="server-1.global"}`: -1,
			`nomad_server_healthy{region="global",server="server-1.global"}`:              1,
		},
		nomadtest.UnknownToken: {`nomad_exporter_errors_total{part="members"}`: 1, `nomad_up`: 0},
	} {
		t.Setenv("NOMAD_ADDR", cluster.URL("server-1"))
		t.Setenv("NOMAD_TOKEN", token)
		code, page, stderr := program(t, "-once")
		if (code == 1) != (token == nomadtest.UnknownToken) || code == 2 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if strings.Contains(page+stderr, token) {
			t.Errorf("the token is shown: %s%s", page, stderr)
		}
		e, log := exporterOf(t, cluster, nomad.WithToken(token))
		has(t, series(t, e), want)
		if strings.Contains(log.String(), token) {
			t.Errorf("the token is logged: %s", log)
		}
	}
}

// transport responds without a network.
type transport func(*http.Request) (string, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := f(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// pool responds like servers with these names at 10.0.0.1, 10.0.0.2 and so on.
func pool(r *http.Request, names ...string) string {
	var list []string
	for i, name := range names {
		list = append(list, fmt.Sprintf(`{"Name":%q,"Addr":"10.0.0.%d","Port":4648,"Status":"alive","Tags":{"region":"global"}}`,
			name+".global", i+1))
	}
	var self int
	fmt.Sscanf(r.URL.Hostname(), "10.0.0.%d", &self)
	switch r.URL.Path {
	case "/v1/agent/members":
		return fmt.Sprintf(`{"ServerName":%q,"ServerRegion":"global","Members":[%s]}`, names[self-1], strings.Join(list, ","))
	case "/v1/agent/health":
		return `{"server":{"ok":true,"message":"ok"}}`
	case "/v1/status/leader":
		return `"10.0.0.1:4647"`
	}
	return fmt.Sprintf(`{"config":{},"member":%s,"stats":{"raft":{"last_contact":"30ms"}}}`, list[self-1])
}

// exporterWith returns an exporter whose requests get responses from respond.
func exporterWith(t *testing.T, ctx context.Context, interval time.Duration, respond transport) *exporter {
	t.Helper()
	client, err := nomad.NewClient(nomad.WithAddress("http://10.0.0.1:4646"), nomad.WithRetries(0),
		nomad.WithHTTPClient(&http.Client{Transport: respond}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return newExporter(ctx, client, slog.New(slog.DiscardHandler), 9*time.Second, interval)
}

func TestScrapesShareASurvey(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var requests atomic.Int32
			proceed := make(chan struct{})
			e := exporterWith(t, t.Context(), interval, func(r *http.Request) (string, error) {
				requests.Add(1)
				<-proceed
				return pool(r, "a", "b"), nil
			})
			var scrapes sync.WaitGroup
			for range 20 {
				scrapes.Go(func() { has(t, series(t, e), map[string]float64{`nomad_up`: 1, `nomad_exporter_surveys_total`: 1}) })
			}
			synctest.Wait() // all scrapes wait for the same response
			close(proceed)
			scrapes.Wait()
			if got := requests.Load(); got != 1+2*4 {
				t.Errorf("got %d requests, want those of one survey", got)
			}
			time.Sleep(time.Second)
			want := 2.0
			if interval > 0 {
				want = 1
			}
			has(t, series(t, e), map[string]float64{`nomad_exporter_surveys_total`: want})
			time.Sleep(time.Minute)
			has(t, series(t, e), map[string]float64{`nomad_exporter_surveys_total`: want + 1})
		})
	}
}

func TestTime(t *testing.T) {
	for name, test := range map[string]struct {
		hangs func(*http.Request) bool
		takes float64 // seconds
		want  map[string]float64
	}{
		"a server that hangs costs its part": {
			func(r *http.Request) bool { return r.URL.Hostname() == "10.0.0.2" }, 6,
			map[string]float64{
				`nomad_server_up{region="global",server="b.global"}`:                   0,
				`nomad_server_healthy{region="global",server="c.global"}`:              1,
				`nomad_server_last_contact_seconds{region="global",server="c.global"}`: 0.03,
				`nomad_exporter_errors_total{part="server"}`:                           1,
			},
		},
		"statistics that hang": {
			func(r *http.Request) bool { return r.URL.Path == "/v1/agent/self" }, 9,
			map[string]float64{
				`nomad_server_healthy{region="global",server="c.global"}`:              1,
				`nomad_server_last_contact_seconds{region="global",server="c.global"}`: -1,
				`nomad_exporter_errors_total{part="stats"}`:                            3,
			},
		},
		"an agent that hangs": {
			func(*http.Request) bool { return true }, 9,
			map[string]float64{`nomad_up`: 0, `nomad_exporter_errors_total{part="members"}`: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := exporterWith(t, t.Context(), 0, func(r *http.Request) (string, error) {
					if test.hangs(r) {
						<-r.Context().Done()
						return "", r.Context().Err()
					}
					return pool(r, "a", "b", "c"), nil
				})
				test.want[`nomad_exporter_survey_duration_seconds`] = test.takes // exact in simulated time
				has(t, series(t, e), test.want)
			})
		})
	}
}

func TestInterruptedScrapeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := exporterWith(t, ctx, 0, func(r *http.Request) (string, error) {
			cancel()
			<-r.Context().Done()
			return "", r.Context().Err()
		})
		registry := prometheus.NewRegistry()
		registry.MustRegister(e)
		if families, err := registry.Gather(); err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("got %v %v, want an error and no metrics with nomad_up 0", families, err)
		}
	})
}

func TestHostileNames(t *testing.T) {
	e := exporterWith(t, t.Context(), 0, func(r *http.Request) (string, error) {
		return strings.ReplaceAll(pool(r, "a", `x\"} 1`, "y\xff"), `"region":"global"`, "\"region\":\"\xff\\n\""), nil
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	var page bytes.Buffer
	if err := write(&page, registry); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(&page); err != nil {
		t.Error(err)
	}
}

// lines is a writer that sends each line to a channel.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := make(lines, 100)
	ended := make(chan error, 1)
	go func() {
		code, err := run(ctx, []string{"-demo", "-listen", "127.0.0.1:0", "-interval", "1h"}, io.Discard, log)
		if code != 0 {
			err = errors.Join(err, fmt.Errorf("exit code %d", code))
		}
		ended <- err
	}()
	url := regexp.MustCompile(`url=(\S+)/metrics\n`)
	var found []string
	for found == nil {
		select {
		case line := <-log:
			found = url.FindStringSubmatch(line)
		case err := <-ended:
			t.Fatal("ended: ", err)
		}
	}
	for path, want := range map[string]string{"/metrics": "\nnomad_up 1\n", "/": `href="metrics"`} {
		response, err := http.Get(found[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v %s %s", path, err, response.Status, body)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestManners(t *testing.T) {
	code, help, stderr := program(t, "-h")
	if code != 0 || stderr != "" || !strings.Contains(help, "exit codes:") || !strings.Contains(help, "  -listen address\n") {
		t.Errorf("exit code %d: %s%s", code, help, stderr)
	}
	for args, want := range map[string]string{
		"-wrong":               "flag provided but not defined: -wrong (see -h)",
		"argument":             `unexpected argument "argument"`,
		"-timeout 0":           "-timeout 0s: want more than 0",
		"-interval -1s":        "-interval -1s: want 0 or more",
		"-port 65536":          "-port 65536: want at most 65535",
		"-https":               "-https requires -port",
		"-demo -port 1":        "-demo and -port exclude each other",
		"-once -listen :0":     "-once and -listen exclude each other",
		"-once -interval 1s":   "-once and -interval exclude each other",
		"-demo -listen nobody": "missing port in address",
	} {
		code, out, stderr := program(t, strings.Fields(args)...)
		if code != 2 || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s%s", args, code, out, stderr)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	defer full.Close()
	for _, args := range [][]string{{"-h"}, {"-demo", "-once"}} {
		if code, err := run(t.Context(), args, full, io.Discard); code != 2 || err == nil {
			t.Errorf("%v: exit code %d, %v; want the error of a full disk", args, code, err)
		}
	}
}

// TestFiles checks that the rules and the dashboard use metrics that exist.
func TestFiles(t *testing.T) {
	known := map[string]bool{}
	for _, d := range descriptions {
		known[regexp.MustCompile(`nomad_\w+`).FindString(d.String())] = true
	}
	dashboard, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(dashboard) {
		t.Error("dashboard.json is not valid JSON")
	}
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"dashboard.json": dashboard, "alerts.yml": rules} {
		used := map[string]bool{}
		for _, metric := range regexp.MustCompile(`\bnomad_\w+`).FindAllString(string(content), -1) {
			used[metric] = true
			if !known[metric] {
				t.Errorf("%s uses %s, which does not exist", name, metric)
			}
		}
		if len(used) < 5 {
			t.Errorf("%s uses only %v", name, used)
		}
	}
	promtool(t, "", "check", "rules", "alerts.yml")
	promtool(t, "", "test", "rules", "alerts_test.yml")
}

// promtool runs promtool of Prometheus if it is installed.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed")
		return
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(input)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v: %s", args, err, output)
	}
}

func TestCopiedAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program")
	}
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		content, err := os.ReadFile(name)
		if err == nil {
			content = bytes.ReplaceAll(content, []byte("=> ../..\n"), []byte("=> "+filepath.ToSlash(checkout)+"\n"))
			err = os.WriteFile(filepath.Join(folder, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, ".")
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func TestRealAgent(t *testing.T) {
	agent, err := nomadtest.StartProcess(t.Context())
	if errors.Is(err, nomadtest.ErrNoBinary) {
		t.Skip("NOMAD_BIN does not name a nomad binary")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	t.Setenv("NOMAD_ADDR", agent.URL())
	code, page, stderr := program(t, "-once")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	labels := fmt.Sprintf(`{region="global",server=%q}`, agent.MemberName())
	for _, want := range []string{
		"nomad_up 1", `nomad_region_leaders{region="global"} 1`, "nomad_server_healthy" + labels + " 1",
		"nomad_server_leader" + labels + " 1", "nomad_server_last_contact_seconds" + labels + " 0",
	} {
		if !strings.Contains(page, "\n"+want+"\n") {
			t.Errorf("want %s: %s%s", want, page, stderr)
		}
	}
}
