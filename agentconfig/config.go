// Package agentconfig has the types of a Nomad agent's configuration.
//
//	self, err := client.Agent.Self(ctx)
//	if err != nil {
//		return err
//	}
//	if self.Config.Server.Enabled {
//		fmt.Println(self.Config.Server.BootstrapExpect, self.Config.Limits.HTTPMaxConnsPerClient)
//	}
//
// An agent reports the values that its operator set, and most defaults. "Default 5s" in a comment means that the agent
// reports 5s if nothing is set. "0 for the default, 5m" means that it then reports 0 and uses 5m. Blocks have the names
// of Nomad's documentation. Fields have the names that agents use in JSON. A comment such as "since 1.8" names the
// first version of Nomad that reports the field. The tag wire:"text" is internal. [Diff] compares two configurations.
//
// # Secrets
//
// Agents redact few of their secrets. A field that may hold one has the type secret.Secret, Endpoint or Setting.
// Packages fmt, log/slog, encoding/json and json/v2 print "<redacted>" in place of the secret. Reveal returns what the
// agent sent, which is also "<redacted>" if the agent redacts it.
package agentconfig

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/internal/lenient"
	"github.com/nomad-go/nomad/internal/show"
	"github.com/nomad-go/nomad/secret"
)

// Config is the configuration of an agent. It has the fields of Nomad 1.6 to 2.0; a field that the agent's version does
// not have is zero.
//
// Agents report some durations twice: in X as they use it, and in XHCL as it is in the configuration file. If the file
// does not set it, XHCL is zero or the default. Both are durations here.
type Config struct {
	// Identity.
	Region     string  // region; default global
	Datacenter string  // datacenter; default dc1
	NodeName   string  // name without the region; default the name of the host
	Version    Version // version of Nomad

	// Addresses and ports.
	BindAddr       string    // address to listen on where Addresses has none; default 0.0.0.0
	Addresses      Addresses // addresses to listen on; HTTP may be several, separated by spaces
	AdvertiseAddrs Addresses // addresses that other agents use, with the port if the agent adds one
	Ports          Ports     // ports to listen on

	// Roles and behavior.
	Client    Client    // settings of a client agent, which runs allocations
	Server    Server    // settings of a server agent, which schedules them
	RPC       RPC       // sessions between agents (since 1.10)
	Limits    Limits    // limits on connections to the agent
	ACL       ACL       // access control
	TLSConfig TLS       // certificates and their verification
	Autopilot Autopilot // management of Raft's servers
	Sentinel  Sentinel  // Sentinel policies; Nomad Enterprise
	Audit     Audit     // audit log; Nomad Enterprise
	Reporting Reporting // usage reports for the license; Nomad Enterprise (since 1.7)

	// Integrations.
	Consuls      []Consul      // Consul clusters; until 1.6 the one that agents report as Consul
	Vaults       []Vault       // Vault clusters; until 1.6 the one that agents report as Vault
	KEKProviders []KEKProvider // services that encrypt the keyring; empty if Nomad encrypts it itself (since 1.8.3)
	Plugins      []Plugin      // plugins that have settings
	PluginDir    string        // folder of the plugins; default plugins in DataDir
	UI           UI            // web interface
	Telemetry    Telemetry     // metrics and their destinations

	// Logging.
	LogLevel           string        // lowest level in the log; default INFO
	LogJson            bool          // log lines are JSON
	LogIncludeLocation bool          // log entries have the file and line of the source
	LogFile            string        // log file, or its folder; empty for none
	LogRotateDuration  time.Duration `wire:"text"` // age at which a new log file begins; 0 for the default, 24h
	LogRotateBytes     int           // size in bytes at which a new log file begins; 0 for no limit
	LogRotateMaxFiles  int           // number of old log files to keep; 0 for all
	EnableSyslog       bool          // log entries go to syslog too
	SyslogFacility     string        // facility for syslog; default LOCAL0
	Eventlog           Eventlog      // log entries in the event log of Windows (since 1.10.5)

	// Process.
	DataDir     string   // folder of the agent's state
	Files       []string // configuration files, in the order in which the agent read them
	ConfigPaths []string // files and folders given on the command line (since 2.0.3)
	DevMode     bool     // the agent was started with -dev
	EnableDebug bool     // debugging endpoints are enabled without ACLs
	LeaveOnInt  bool     // the agent leaves the cluster on an interrupt signal
	LeaveOnTerm bool     // the agent leaves the cluster on a terminate signal

	// HTTP headers and update checks.
	HTTPAPIResponseHeaders    map[string]secret.Secret // headers added to each HTTP response; their values may be secret
	DisableUpdateCheck        bool                     // no checks for updates and security bulletins at HashiCorp
	DisableAnonymousSignature bool                     // no identifier of the installation in these checks

	raw *string // what was decoded; package fmt never prints what a pointer to a string points to
}

// Unknown returns what the agent sent and Config has no place for: fields of other versions of Nomad, and values whose
// type does not fit their field. Keys are JSON Pointers below the configuration, such as /Client/NewSetting. Values are
// as the agent sent them, so they may hold secrets. It returns 6 MiB at most; further values are dropped.
//
// The map is empty for versions of Nomad that the package was tested with, and for a Config that was not decoded.
func (c *Config) Unknown() map[string]json.RawMessage {
	if c.raw == nil {
		return map[string]json.RawMessage{}
	}
	return lenient.Unknown([]byte(*c.raw), reflect.TypeFor[wireConfig]())
}

// String describes the agent on one line: its name, region, version and roles.
func (c Config) String() string {
	var roles []string
	if c.Server.Enabled {
		roles = append(roles, "server")
	}
	if c.Client.Enabled {
		roles = append(roles, "client")
	}
	if roles == nil {
		roles = []string{"no role"}
	}
	return fmt.Sprintf("%s %s (%s)", show.Line(c.NodeName+"."+c.Region), c.Version, strings.Join(roles, ", "))
}

// Format prints what String returns, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue logs what String returns.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON returns the configuration with the names and shapes of Nomad. Secrets are "<redacted>". It has all fields
// of Config, whatever the agent sent: a field that the agent's version does not have is zero, a list or a value that is
// not set is null. It does not have what Unknown returns.
func (c Config) MarshalJSON() ([]byte, error) { return marshal(reflect.ValueOf(c)) }

// wireConfig is a Config with the fields of Nomad up to 1.6.
type wireConfig struct {
	configFields
	Consul *Consul
	Vault  *Vault
}

type configFields Config // without its methods

// UnmarshalJSON decodes a configuration from an agent. A value whose type does not fit its field is skipped: Unknown
// returns it.
func (c *Config) UnmarshalJSON(data []byte) error { return lenient.Unmarshal(data, c) }

func init() { lenient.Register(unmarshalConfig) }

func unmarshalConfig(dec *jsontext.Decoder, c *Config) error {
	if dec.PeekKind() == 'n' {
		return dec.SkipValue() // by convention
	}
	var w wireConfig
	raw, err := lenient.UnmarshalFrom(dec, &w)
	if err != nil {
		return err
	}
	if w.Consul != nil {
		w.Consuls = append(w.Consuls, *w.Consul)
	}
	if w.Vault != nil {
		w.Vaults = append(w.Vaults, *w.Vault)
	}
	*c = Config(w.configFields)
	c.raw = &raw
	return nil
}

// Version is the version of Nomad that an agent runs.
type Version struct {
	Version           string     // such as 2.0.5
	VersionPrerelease string     // such as dev or rc.1; empty for a release
	VersionMetadata   string     // such as ent for Nomad Enterprise
	Revision          string     // commit of the build; empty if the build does not have it
	BuildDate         *time.Time // time of that commit; nil if the build does not have it
}

// String returns the version as Nomad writes it, such as 2.0.5, 2.1.0-rc.1 or 2.0.5+ent.
func (v Version) String() string {
	s := v.Version
	if v.VersionPrerelease != "" {
		s += "-" + v.VersionPrerelease
	}
	if v.VersionMetadata != "" {
		s += "+" + v.VersionMetadata
	}
	return show.Line(s)
}

// Addresses are addresses of an agent, one for each protocol.
type Addresses struct {
	HTTP string // HTTP API
	RPC  string // calls between agents
	Serf string // gossip of servers
}

// Ports are the ports that an agent listens on, one for each protocol.
type Ports struct {
	HTTP int // HTTP API; default 4646
	RPC  int // calls between agents; default 4647
	Serf int // gossip of servers; default 4648
}

// ServerJoin is how an agent finds servers when it starts.
type ServerJoin struct {
	StartJoin        []Endpoint    // addresses to join once; the agent exits if all of them fail
	RetryJoin        []Endpoint    // addresses, or go-discover expressions, to join until it succeeds
	RetryMaxAttempts int           // attempts for RetryJoin; 0 for no limit
	RetryInterval    time.Duration // time between two attempts; default 30s
}

// RPC is the settings of sessions between agents, which carry many streams over one connection.
type RPC struct {
	AcceptBacklog             int           // streams that may wait to be accepted; default 256
	KeepAliveInterval         time.Duration // time between two keep-alive messages; default 30s
	KeepAliveIntervalHCL      time.Duration `wire:"text"` // KeepAliveInterval in the configuration file
	ConnectionWriteTimeout    time.Duration // time limit of a write; default 10s
	ConnectionWriteTimeoutHCL time.Duration `wire:"text"` // ConnectionWriteTimeout in the configuration file
	StreamOpenTimeout         time.Duration // time limit for the peer to accept a stream; default 75s, 0 for none
	StreamOpenTimeoutHCL      time.Duration `wire:"text"` // StreamOpenTimeout in the configuration file
	StreamCloseTimeout        time.Duration // time that a stream may be half closed; default 5m
	StreamCloseTimeoutHCL     time.Duration `wire:"text"` // StreamCloseTimeout in the configuration file
	DialTimeout               time.Duration // time limit of a new connection; default 10s (since 2.0.1)
	DialTimeoutHCL            time.Duration `wire:"text"` // DialTimeout in the configuration file (since 2.0.1)
}

// Limits are limits on connections to an agent.
type Limits struct {
	HTTPSHandshakeTimeout time.Duration `wire:"text"` // time limit of a TLS handshake for HTTP; default 5s, 0 for none
	HTTPMaxConnsPerClient int           // HTTP connections from one address; default 100, 0 for no limit
	RPCHandshakeTimeout   time.Duration `wire:"text"` // time limit of an RPC handshake; default 5s, 0 for none
	RPCMaxConnsPerClient  int           // RPC connections from one address; default 100, 0 for no limit
}

// ACL is the settings of access control.
type ACL struct {
	Enabled               bool          // ACLs are enforced
	TokenTTL              time.Duration // time that tokens are cached; default 30s
	PolicyTTL             time.Duration // time that policies are cached; default 30s
	RoleTTL               time.Duration // time that roles are cached; default 30s
	ReplicationToken      secret.Secret // token to copy tokens and policies from another region; redacted by the agent
	TokenMinExpirationTTL time.Duration // shortest expiration of a token; 0 for the default, 1m
	TokenMaxExpirationTTL time.Duration // longest expiration of a token; 0 for the default, 24h
}

// TLS is the settings of certificates and their verification.
type TLS struct {
	EnableHTTP                  bool      // TLS for the HTTP API
	EnableRPC                   bool      // TLS for RPC and Raft
	VerifyServerHostname        bool      // the certificate of a server must be for server.<region>.nomad
	VerifyHTTPSClient           bool      // HTTP clients need a certificate
	RPCUpgradeMode              bool      // servers also accept RPC without TLS, while a cluster changes to TLS
	CAFile                      string    // file of the certificate authority
	CertFile                    string    // file of the certificate
	KeyFile                     string    // file of the certificate's private key
	TLSMinVersion               string    // lowest version, such as tls12; empty for the default of Nomad
	TLSCipherSuites             string    // cipher suites, separated by commas; empty for the default of Nomad
	TLSPreferServerCipherSuites bool      // the server's order of cipher suites is used (until 1.8)
	Checksum                    string    // SHA-256 of the files, by which the agent detects changes
	KeyLoader                   *struct{} // internal to the agent, always empty
}

// Sentinel is the settings of Sentinel policies. It is for Nomad Enterprise.
type Sentinel struct {
	Imports                  []SentinelImport // imports beyond the standard ones
	AdditionalEnabledModules []string         // standard imports that are disabled by default (since 1.11.2)
}

// SentinelImport is a program that policies can import.
type SentinelImport struct {
	Name string          // name of the import
	Path string          // path of the program
	Args []secret.Secret // arguments of the program; they may be secret
}

// Audit is the settings of the audit log. It is for Nomad Enterprise.
type Audit struct {
	Enabled *bool         // the audit log is enabled; nil if not set
	Sinks   []AuditSink   // destinations
	Filters []AuditFilter // events that are left out
}

// AuditSink is a destination of the audit log.
type AuditSink struct {
	Name              string        // name
	Type              string        // kind: file
	Format            string        // format: json
	DeliveryGuarantee string        // enforced: requests that cannot be logged fail; or best-effort
	Path              string        // file
	Mode              string        // permissions of the file, in octal
	RotateDuration    time.Duration // age at which a new file begins
	RotateBytes       int           // size in bytes at which a new file begins
	RotateMaxFiles    int           // number of old files to keep
}

// AuditFilter selects events that the audit log leaves out.
type AuditFilter struct {
	Name       string   // name
	Type       string   // kind of event, such as HTTPEvent
	Endpoints  []string // paths of endpoints
	Stages     []string // stages of a request
	Operations []string // operations, such as GET
}

// Reporting is the settings of usage reports for the license. It is for Nomad Enterprise.
type Reporting struct {
	License                  ReportingLicense // reports of the use of the license
	DisableUsageReporting    *bool            // no reports of the use of the product; nil if not set (since 2.0)
	ExportInterval           time.Duration    // time between two reports; 0 for the default (since 1.8.3)
	SnapshotRetentionTime    time.Duration    // time that figures are kept; 0 for the default (since 1.10.2)
	SnapshotRetentionTimeHCL time.Duration    `wire:"text"` // SnapshotRetentionTime in the file (since 1.10.2)
	NonProduction            bool             // the cluster is not for production, as in Server.NonProduction (since 2.0)
}

// ReportingLicense is the settings of reports of the use of the license.
type ReportingLicense struct {
	Enabled *bool // reports are enabled; nil if not set
}

// Eventlog is the settings of log entries in the event log of Windows.
type Eventlog struct {
	Enabled bool   // log entries go to the event log too
	Level   string // lowest level: info, warn or error; default error
}

// KEKProvider is a service that encrypts the keys of the keyring. Agents do not report its settings.
type KEKProvider struct {
	Provider string // kind: aead, awskms, azurekeyvault, gcpckms or transit
	Name     string // name, if there are several of one kind
	Active   bool   // new keys are encrypted by it
}

// Plugin is a plugin that has settings.
type Plugin struct {
	Name   string             // name
	Args   []secret.Secret    // arguments of the program; they may be secret
	Config map[string]Setting // settings of the plugin; they may be secret, and agents do not redact them
}

// UI is the settings of the web interface.
type UI struct {
	Enabled               bool                    // the web interface is enabled; default true
	ShowCLIHints          bool                    // commands print links to it; default true (since 1.10)
	Consul                UILink                  // web interface of Consul
	Vault                 UILink                  // web interface of Vault
	Label                 UILabel                 // label to distinguish clusters
	ContentSecurityPolicy UIContentSecurityPolicy // sources that pages may load
}

// UILink is the address of another web interface.
type UILink struct {
	BaseUIURL Endpoint // URL; empty for no links
}

// UILabel is a label in the web interface.
type UILabel struct {
	Text            string // text; empty for no label
	BackgroundColor string // color of the background
	TextColor       string // color of the text
}

// UIContentSecurityPolicy is the header Content-Security-Policy of the web interface: sources by directive.
type UIContentSecurityPolicy struct {
	DefaultSrc     []string // default-src; default 'none'
	ConnectSrc     []string // connect-src; default *
	ImgSrc         []string // img-src; default 'self' data:
	ScriptSrc      []string // script-src; default 'self'
	StyleSrc       []string // style-src; default 'self' 'unsafe-inline'
	FormAction     []string // form-action; default 'none'
	FrameAncestors []string // frame-ancestors; default 'none'
}
