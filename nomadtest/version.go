package nomadtest

import (
	"embed"
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// What agents report and say depends on their version. The configurations of four versions were recorded; for one between
// two of them, changes say which differences it has already.

// configs holds the configurations that agents of some versions report, with all that they default to.
//
//go:embed config/*.json
var configs embed.FS

// recordedVersions are those that there is a configuration of, the oldest first.
var recordedVersions = []string{"1.6.5", "1.8.4", "1.11.3", "2.0.5"}

// changes are the versions in which parts of the configuration became what they are in a recorded version, since the recorded
// one before, from the history of Nomad.
var changes = map[string]map[string]string{
	"1.8.4": {
		"Client.AllocMountsDir":                         "1.8.0",
		"Client.Artifact.FilesystemIsolationExtraPaths": "1.8.0",
		"Client.PreferredAddressFamily":                 "1.8.2",
		"Client.ReservableCores":                        "1.7.0",
		"Client.ReserveableCores":                       "1.7.0",
		"Consul":                                        "1.7.0",
		"Consuls":                                       "1.7.0",
		"Consuls.0.ClientFailuresBeforeCritical":        "1.7.3",
		"Consuls.0.ClientFailuresBeforeWarning":         "1.7.3",
		"Consuls.0.ServerFailuresBeforeCritical":        "1.7.3",
		"Consuls.0.ServerFailuresBeforeWarning":         "1.7.3",
		"Vault":                                         "1.7.0",
		"Vaults":                                        "1.7.0",
		"Server.OIDCIssuer":                             "1.7.0",
		"Client.TemplateConfig.BlockQueryWaitTime":      "1.7.7",
		"Client.TemplateConfig.MaxStale":                "1.7.7",
		"Client.TemplateConfig.ConsulRetry":             "1.7.7",
		"Client.TemplateConfig.NomadRetry":              "1.7.7",
		"Client.TemplateConfig.VaultRetry":              "1.7.7",
		"Telemetry.InMemoryCollectionInterval":          "1.7.7",
		"Telemetry.InMemoryRetentionPeriod":             "1.7.7",
		"Telemetry.DisableQuotaUtilizationMetrics":      "1.8.1",
		"KEKProviders":                                  "1.8.3",
		"Reporting.ExportInterval":                      "1.8.3",
		"Reporting.License":                             "1.8.3",
		"Client.Users":                                  "1.8.0",
		"Reporting":                                     "1.7.0",
	},
	"1.11.3": {
		"Client.BridgeNetworkSubnetIPv6":          "1.9.0",
		"TLSConfig.TLSPreferServerCipherSuites":   "1.9.0",
		"Telemetry.AllowedMetadataKeysInMetrics":  "1.9.0",
		"Telemetry.IncludeAllocMetadataInMetrics": "1.9.0",
		"Client.TemplateConfig.Wait":              "1.9.0",
		"Client.TemplateConfig.WaitBounds":        "1.9.0",
		"Client.TemplateConfig.FunctionDenylist":  "1.9.4",
		"Telemetry.DisableAllocationHookMetrics":  "1.9.4",
		"Client.CpuDisableDmidecode":              "1.9.7",
		"Client.HostVolumePluginDir":              "1.10.0",
		"Client.HostVolumesDir":                   "1.10.0",
		"Consuls.0.AllowUnauthenticated":          "1.10.0",
		"Vaults.0.AllowUnauthenticated":           "1.10.0",
		"Vaults.0.TaskTokenTTL":                   "1.10.0",
		"RPC":                                     "1.10.0",
		"UI.ShowCLIHints":                         "1.10.0",
		"Server.StartTimeout":                     "1.10.1",
		"Client.GCVolumesOnNodeGC":                "1.10.2",
		"Client.NodeMaxAllocs":                    "1.10.2",
		"Reporting.SnapshotRetentionTime":         "1.10.2",
		"Reporting.SnapshotRetentionTimeHCL":      "1.10.2",
		"Client.LogFile":                          "1.10.4",
		"Server.LogFile":                          "1.10.4",
		"Client.Artifact":                         "1.10.5",
		"Eventlog":                                "1.10.5",
		"Client.CommonPluginDir":                  "1.11.0",
		"Client.IntroToken":                       "1.11.0",
		"Server.ClientIntroduction":               "1.11.0",
		"Server.JobMaxCount":                      "1.11.0",
		"Client.Fingerprinters":                   "1.11.2",
		"Client.CNIPath":                          "1.11.2",
		"Consuls.0.Addr":                          "1.11.2",
		"Sentinel.AdditionalEnabledModules":       "1.11.2",
	},
	"2.0.5": {
		"Reporting.DisableUsageReporting":                    "2.0.0",
		"Reporting.NonProduction":                            "2.0.0",
		"Server.NonProduction":                               "2.0.0",
		"Server.RaftLogStoreConfig":                          "2.0.0",
		"RPC.DialTimeout":                                    "2.0.1",
		"RPC.DialTimeoutHCL":                                 "2.0.1",
		"Client.DefaultIneligible":                           "2.0.3",
		"ConfigPaths":                                        "2.0.3",
		"Client.TemplateConfig.UseClientConsulToken":         "2.0.4",
		"Client.TemplateConfig.VaultDefaultLeaseDuration":    "2.0.4",
		"Client.TemplateConfig.VaultDefaultLeaseDurationHCL": "2.0.4",
		"Server.PlanApplyPipeline":                           "2.0.5",
	},
}

// retries changed twice between 1.8.4 and 1.11.3.
var retries = map[string]string{
	"BackoffHCL": "1.9.0", "MaxBackoffHCL": "1.9.0", "Attempts": "1.9.7", "Backoff": "1.9.7", "MaxBackoff": "1.9.7",
}

// changedIn is the version in which a part of the configuration became what it is in a recorded version.
func changedIn(path []string, to string) string {
	if len(path) == 4 && strings.HasSuffix(path[2], "Retry") && to == "1.11.3" {
		return retries[path[3]]
	}
	for n := len(path); n > 0; n-- {
		if version := changes[to][strings.Join(path[:n], ".")]; version != "" {
			return version
		}
	}
	return ""
}

// defaults is the configuration that agents of a version report before anything is set.
func (a *Agent) defaults() (map[string]any, error) {
	at := 0
	for i, version := range recordedVersions {
		if a.atLeast(numbersOf(version)...) {
			at = i
		}
	}
	config, err := defaultsOf(recordedVersions[at])
	if err != nil || at+1 == len(recordedVersions) {
		return config, err
	}
	next, err := defaultsOf(recordedVersions[at+1])
	if err != nil {
		return nil, err
	}
	a.advance(config, next, nil, recordedVersions[at+1])
	return config, nil
}

func defaultsOf(version string) (map[string]any, error) {
	file, err := configs.Open("config/" + version + ".json")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(content)))
	decoder.UseNumber() // 80.0 stays 80.0
	return config, decoder.Decode(&config)
}

// advance changes a part of a configuration to what it is in a later version, as far as the agent's version has come.
func (a *Agent) advance(have, next map[string]any, path []string, to string) {
	names := slices.Sorted(maps.Keys(next))
	for name := range have {
		if _, ok := next[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		path := append(slices.Clone(path), name)
		mine, isMine := have[name]
		theirs, isTheirs := next[name]
		switch {
		case reflect.DeepEqual(mine, theirs) && isMine == isTheirs:
		case isMine && isTheirs && a.advanceInto(mine, theirs, path, to):
		case !a.hasCome(changedIn(path, to)):
		case isTheirs:
			have[name] = a.pruned(theirs, path, to)
		default:
			delete(have, name)
		}
	}
}

// advanceInto is advance for what is within a value, if there is something within.
func (a *Agent) advanceInto(mine, theirs any, path []string, to string) bool {
	switch theirs := theirs.(type) {
	case map[string]any:
		if mine, ok := mine.(map[string]any); ok {
			a.advance(mine, theirs, path, to)
			return true
		}
	case []any:
		mine, ok := mine.([]any)
		if !ok || len(mine) != len(theirs) {
			return false
		}
		for i := range theirs {
			if !a.advanceInto(mine[i], theirs[i], append(slices.Clone(path), strconv.Itoa(i)), to) {
				return false
			}
		}
		return len(mine) > 0
	}
	return false
}

// pruned is a value of a later version without what came only after the agent's.
func (a *Agent) pruned(value any, path []string, to string) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, item := range value {
			if path := append(slices.Clone(path), name); a.hasCome(changedIn(path, to)) {
				out[name] = a.pruned(item, path, to)
			}
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, item := range value {
			out[i] = a.pruned(item, append(slices.Clone(path), strconv.Itoa(i)), to)
		}
		return out
	}
	return value
}

// hasCome reports whether the agent's version has a change.
func (a *Agent) hasCome(version string) bool {
	return version != "" && a.atLeast(numbersOf(version)...)
}

// atLeast reports whether the agent's version of Nomad is that or a later one, a prerelease of it too.
func (a *Agent) atLeast(want ...int) bool {
	have := numbersOf(a.version)
	for i, n := range want {
		part := 0
		if i < len(have) {
			part = have[i]
		}
		if part != n {
			return part > n
		}
	}
	return true
}

// numbersOf are the numbers of a version, without what is after them, such as -beta.1 or +ent.
func numbersOf(version string) (numbers []int) {
	version = strings.TrimPrefix(version, "v")
	end := strings.IndexAny(version, "-+")
	if end < 0 {
		end = len(version)
	}
	for part := range strings.SplitSeq(version[:end], ".") {
		n, _ := strconv.Atoi(part)
		numbers = append(numbers, n)
	}
	return numbers
}
