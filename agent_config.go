package nomad

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"
)

// Config is an agent's configuration: what its operator set and, for the rest, the defaults.
//
// It is what Nomad 1.6 and 2.0 send, under the names that they send. A field of a later version is empty when an
// earlier one answers, and the other way round. Where Nomad knows a value in two forms, as a duration and as the text
// that the operator wrote, the second has a name that ends in HCL; here both are durations.
//
// The agent redacts few secrets: each field that it does redact says so, and so does each that holds a secret as it is.
type Config struct {
	object

	// Who the agent is.
	Region     string        // its region; default global
	Datacenter string        // its datacenter; default dc1
	NodeName   string        // its name, without the region; default the host's name
	Version    ConfigVersion // the version of Nomad that it runs

	// Addresses and ports.
	BindAddr       string          // the address that it listens on where Addresses has none; default 0.0.0.0
	Addresses      ConfigAddresses // the addresses that it listens on; HTTP can be several, separated by spaces
	AdvertiseAddrs ConfigAddresses // the addresses that it tells others to use, most with a port
	Ports          ConfigPorts     // the ports that it listens on

	// What the agent does.
	Client    ConfigClient    // its part as a client, which runs allocations
	Server    ConfigServer    // its part as a server, which schedules them
	RPC       ConfigRPC       // the sessions between agents (since 1.10)
	Limits    ConfigLimits    // limits on connections to it
	ACL       ConfigACL       // access control
	TLSConfig ConfigTLS       // certificates and how they are checked
	Autopilot ConfigAutopilot // how servers are added to and removed from Raft
	Sentinel  ConfigSentinel  // policies in Sentinel; Nomad Enterprise
	Audit     ConfigAudit     // the audit log; Nomad Enterprise
	Reporting ConfigReporting // reports of use for the license; Nomad Enterprise (since 1.7)

	// What it works with.
	Consuls      []ConfigConsul      `single:"Consul"` // the Consul clusters; up to 1.6 the only one
	Vaults       []ConfigVault       `single:"Vault"`  // the Vault clusters; up to 1.6 the only one
	KEKProviders []ConfigKEKProvider // what encrypts the keyring's keys; empty for Nomad itself (since 1.8.3)
	Plugins      []ConfigPlugin      // plugins that have a configuration of their own
	PluginDir    string              // the folder of plugins; default plugins in DataDir
	UI           ConfigUI            // the web interface
	Telemetry    ConfigTelemetry     // where metrics go

	// The agent's log.
	LogLevel           string         // the lowest level that is logged; default INFO
	LogJson            bool           // lines of JSON instead of text
	LogIncludeLocation bool           // the source file and line with each entry
	LogFile            string         // the log file, or the folder for it; empty for none
	LogRotateDuration  time.Duration  // the age at which a new log file begins; 0 for the default, 24h
	LogRotateBytes     int            // the size in bytes at which a new log file begins; 0 for none
	LogRotateMaxFiles  int            // how many old log files are kept; 0 for all
	EnableSyslog       bool           // entries go to syslog too
	SyslogFacility     string         // the facility of entries in syslog; default LOCAL0
	Eventlog           ConfigEventlog // entries in the event log of Windows (since 1.10.5)

	// The process.
	DataDir     string   // the folder for the agent's state
	Files       []string // the configuration files that it read, in order
	ConfigPaths []string // the files and folders that the command line named (since 2.0.3)
	DevMode     bool     // it was started with -dev
	EnableDebug bool     // its debugging endpoints are on without ACLs
	LeaveOnInt  bool     // it leaves the cluster upon an interrupt signal
	LeaveOnTerm bool     // it leaves the cluster upon a terminate signal

	// What it sends and answers.
	HTTPAPIResponseHeaders    map[string]string // headers that it adds to each HTTP answer
	DisableUpdateCheck        bool              // it does not ask HashiCorp for updates and security bulletins
	DisableAnonymousSignature bool              // it asks without a signature that tells installations apart
}

// Unknown gives what the agent sent and Config has no place for: keys of another version of Nomad, and values of another
// type than their field has. Its keys are JSON Pointers below the configuration, such as /Client/NewSetting. It is
// empty for the versions that this package was tested with.
func (c *Config) Unknown() map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	collectRest(reflect.ValueOf(c).Elem(), "", all)
	return all
}

// Format prints the configuration like %+v, whatever the verb, so that no Secret in it is ever shown.
func (c Config) Format(f fmt.State, _ rune) {
	type fields Config
	fmt.Fprintf(f, "%+v", fields(c))
}

// LogValue logs what Format prints.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// MarshalJSON writes the configuration as the agent sent it, with the keys of its version, in another order, and with the
// secrets in it. A
// value that did not fit its field is written as it came, unless the field was set since.
func (c Config) MarshalJSON() ([]byte, error) { return marshalLenient(&c) }

// UnmarshalJSON reads a configuration as agents send it.
func (c *Config) UnmarshalJSON(data []byte) error { return unmarshalLenient(data, c) }

// ConfigVersion is the version of Nomad that an agent runs.
type ConfigVersion struct {
	object

	Version           string     // such as 2.0.5
	VersionPrerelease string     // such as dev or rc.1; empty for a release
	VersionMetadata   string     // such as ent for Nomad Enterprise
	Revision          string     // the commit that was built; empty if the build does not know it
	BuildDate         *time.Time // the time of that commit; nil if the build does not know it
}

// String is the version as Nomad writes it, such as 2.0.5, 2.1.0-rc.1 or 2.0.5+ent.
func (v ConfigVersion) String() string {
	s := v.Version
	if v.VersionPrerelease != "" {
		s += "-" + v.VersionPrerelease
	}
	if v.VersionMetadata != "" {
		s += "+" + v.VersionMetadata
	}
	return s
}

// ConfigAddresses are an agent's addresses, one for each protocol.
type ConfigAddresses struct {
	object

	HTTP string // for the HTTP API
	RPC  string // for calls between agents
	Serf string // for the gossip of servers
}

// ConfigPorts are the ports that an agent listens on, one for each protocol.
type ConfigPorts struct {
	object

	HTTP int // for the HTTP API; default 4646
	RPC  int // for calls between agents; default 4647
	Serf int // for the gossip of servers; default 4648
}

// ConfigServerJoin is how an agent finds servers when it starts.
type ConfigServerJoin struct {
	object

	StartJoin        []string      // addresses to join once; the agent ends if none of them answers
	RetryJoin        []string      // addresses, or a provider's expression, to join until it succeeds
	RetryMaxAttempts int           // how often RetryJoin is tried; 0 for no limit
	RetryInterval    time.Duration // the time between two tries; default 30s
}

// ConfigClient is an agent's part as a client.
type ConfigClient struct {
	object

	Enabled bool // the agent is a client

	// The node.
	NodeClass         string            // its class, any text for use in constraints
	NodePool          string            // its node pool; default default
	Meta              map[string]string // its metadata
	Options           map[string]string // settings of fingerprinters and drivers, by their dotted names
	DefaultIneligible bool              // a new node is not eligible for scheduling (since 2.0.3)
	NoHostUUID        bool              // its ID is random instead of made from the host's; default true
	NodeMaxAllocs     int               // the most allocations that it runs; 0 for no limit (since 1.10.2)
	IntroToken        Secret            // what introduces it to the servers; a secret, not redacted (since 1.11)

	// The servers.
	Servers    []string         // addresses of servers, each host:port
	ServerJoin ConfigServerJoin // how it finds servers at the start

	// Folders. Empty, each is a folder in or beside DataDir.
	StateDir            string // the client's state
	AllocDir            string // the allocations' data
	AllocMountsDir      string // mounts into the allocations' data (since 1.8)
	HostVolumesDir      string // where plugins are told to put dynamic host volumes (since 1.10)
	HostVolumePluginDir string // the plugins for dynamic host volumes (since 1.10)
	CommonPluginDir     string // the plugins of the common kind (since 1.11)
	LogFile             string // the client's log file (since 1.10.4)

	// What the node has, where the operator knows better than its fingerprint. 0 or empty leaves it to the fingerprint.
	CpuCompute          int            // the total of CPU, in MHz
	CpuDisableDmidecode bool           // CPU speed is measured without dmidecode (since 1.9.7)
	MemoryMB            int            // the total of memory, in MB
	DiskTotalMB         int            // the total of disk, in MB
	DiskFreeMB          int            // the free disk, in MB
	NetworkSpeed        int            // the link's speed, in megabits a second
	ReservableCores     string         // the cores that jobs can reserve, such as 0-3,8 (since 1.7)
	ReserveableCores    string         // ReservableCores under its older name (until 1.6)
	Reserved            ConfigReserved // what is kept from jobs

	// The network.
	NetworkInterface               string              // the interface to fingerprint; empty for the default route's
	PreferredAddressFamily         string              // ipv4 or ipv6, which comes first; empty for none (since 1.8.2)
	MinDynamicPort, MaxDynamicPort int                 // the range of dynamic ports; default 20000 to 32000
	ClientMinPort, ClientMaxPort   int                 // the ports to talk to plugins; default 14000 to 14512
	HostNetworks                   []ConfigHostNetwork // networks of the host that have a name
	BindWildcardDefaultHostNetwork bool                // mapped ports bind to all addresses; default true
	BridgeNetworkName              string              // the bridge for mode bridge; empty for the default, nomad
	BridgeNetworkSubnet            string              // its IPv4 subnet; empty for the default, 172.26.64.0/20
	BridgeNetworkSubnetIPv6        string              // its IPv6 subnet; empty for none (since 1.9)
	BridgeNetworkHairpinMode       bool                // its hairpin mode
	CNIPath                        string              // the folders of CNI plugins, separated by colons
	CNIConfigDir                   string              // the folder of CNI networks; default /opt/cni/config
	NomadServiceDiscovery          bool                // Nomad's own services are on; default true

	// Tasks.
	MaxKillTimeout    time.Duration      // the most that a task can have as kill timeout; default 30s
	DisableRemoteExec bool               // nobody can execute commands in its allocations
	ChrootEnv         map[string]string  // folders of the host and where they are in a task's chroot
	CgroupParent      string             // the cgroup that all of Nomad's are in; empty for Nomad's default
	HostVolumes       []ConfigHostVolume // folders of the host that jobs can mount
	TemplateConfig    ConfigTemplate     // the rendering of templates
	Artifact          ConfigArtifact     // the download of artifacts
	Users             ConfigUsers        // users that are made for tasks (since 1.8)

	// Fingerprinters that are not as usual (since 1.11.2).
	Fingerprinters []ConfigFingerprinter

	// The node's drain when the agent ends; nil for none.
	Drain *ConfigDrain

	// The garbage collection of allocations that ended.
	GCInterval            time.Duration // the time between two collections; default 1m
	GCParallelDestroys    int           // how many are removed at once; default 2
	GCDiskUsageThreshold  float64       // the percentage of disk in use that starts one; default 80
	GCInodeUsageThreshold float64       // the percentage of inodes in use that starts one; default 70
	GCMaxAllocs           int           // the number of allocations that starts one; default 50
	GCVolumesOnNodeGC     bool          // servers forget its dynamic host volumes with the node (since 1.10.2)
}

// ConfigReserved is what a client keeps from jobs.
type ConfigReserved struct {
	object

	CPU           int    // CPU, in MHz
	Cores         string // cores, such as 0-3,8
	MemoryMB      int    // memory, in MB
	DiskMB        int    // disk, in MB
	ReservedPorts string // ports, such as 22,80,8500-8600
}

// ConfigHostVolume is a folder of the host that jobs can mount.
type ConfigHostVolume struct {
	object

	Name     string // its name
	Path     string // the folder
	ReadOnly bool   // jobs can only read it
	ID       string // the ID of a dynamic host volume; empty for one that is configured (since 1.10)
}

// ConfigHostNetwork is a network of the host that jobs can name.
type ConfigHostNetwork struct {
	object

	Name          string // its name
	CIDR          string // the addresses that belong to it
	Interface     string // the interface that belongs to it
	ReservedPorts string // ports that jobs cannot have on it, such as 22,80
}

// ConfigDrain is how a client drains its node when the agent ends.
type ConfigDrain struct {
	object

	Deadline         *time.Duration // how long it waits for allocations to stop; nil for the default, 1h
	IgnoreSystemJobs *bool          // the allocations of system jobs stay; nil for false
	Force            *bool          // all allocations stop at once, whatever their jobs' migrate says; nil for false
}

// ConfigFingerprinter is how a client runs one of the fingerprinters of cloud environments.
type ConfigFingerprinter struct {
	object

	Name             string        // which, such as env_aws
	RetryInterval    time.Duration // the time between two attempts
	RetryIntervalHCL time.Duration // RetryInterval as it was written
	RetryAttempts    int           // how many attempts it has; -1 is the least that Nomad allows
	ExitOnFailure    *bool         // the agent ends when the last attempt fails; nil if it is not set
}

// ConfigUsers is the range of users that a client makes for tasks.
type ConfigUsers struct {
	object

	MinDynamicUser int // the lowest user and group ID; default 80000, -1 for none at all
	MaxDynamicUser int // the highest user and group ID; default 89999, -1 for none at all
}

// ConfigTemplate is how a client renders templates.
type ConfigTemplate struct {
	object

	DisableSandbox       bool     // templates can read the host's files
	FunctionDenylist     []string // functions that templates cannot use
	FunctionBlacklist    []string // FunctionDenylist under its older name
	UseClientConsulToken bool     // templates use the client's own Consul token (since 2.0.4)

	// How old data from Consul can be: with it, followers answer too. Default 87600h (Nomad 2.0).
	MaxStale    *time.Duration
	MaxStaleHCL time.Duration // MaxStale as it was written

	// How long a query waits for a change. Default 5m (Nomad 2.0).
	BlockQueryWaitTime    *time.Duration
	BlockQueryWaitTimeHCL time.Duration // BlockQueryWaitTime as it was written

	// The time after which a secret of Vault without a lease is read again. Default 5m (since 2.0.4).
	VaultDefaultLeaseDuration    *time.Duration
	VaultDefaultLeaseDurationHCL time.Duration // VaultDefaultLeaseDuration as it was written

	// How long data must stay the same before a template is rendered (both since 1.9).
	Wait       *ConfigWait // what templates have that say nothing; default 5s to 4m (Nomad 2.0)
	WaitBounds *ConfigWait // what templates can ask for; nil for no bounds

	// What happens after an error. Default 12 attempts, 250ms and 1m (Nomad 2.0).
	ConsulRetry *ConfigRetry // from Consul
	VaultRetry  *ConfigRetry // from Vault
	NomadRetry  *ConfigRetry // from Nomad
}

// ConfigWait is how long data must stay the same before a template is rendered.
type ConfigWait struct {
	object

	Min    *time.Duration // the shortest time; nil if it is not set
	MinHCL time.Duration  // Min as it was written
	Max    *time.Duration // the longest time; nil if it is not set
	MaxHCL time.Duration  // Max as it was written
}

// ConfigRetry is how often and when something that failed is tried again.
type ConfigRetry struct {
	object

	Attempts      *int           // how often; 0 for no limit, nil if it is not set
	Backoff       *time.Duration // the first pause, which doubles each time; nil if it is not set
	BackoffHCL    time.Duration  // Backoff as it was written (since 1.9)
	MaxBackoff    *time.Duration // the longest pause; 0 for no limit, nil if it is not set
	MaxBackoffHCL time.Duration  // MaxBackoff as it was written (since 1.9)
}

// ConfigArtifact is what a client allows when it downloads artifacts.
type ConfigArtifact struct {
	object

	// How long a download can take, by its kind. Default 30m each.
	HTTPReadTimeout time.Duration // by HTTP
	GCSTimeout      time.Duration // from Google Cloud Storage
	GitTimeout      time.Duration // by Git
	HgTimeout       time.Duration // by Mercurial
	S3Timeout       time.Duration // from S3

	HTTPMaxSize                 string // the largest download by HTTP; default 100GB
	DecompressionSizeLimit      string // the most that an archive can unpack to; default 100GB
	DecompressionFileCountLimit int    // the most files that an archive can hold; default 4096

	DisableArtifactInspection     bool     // artifacts are not searched for ways out of the sandbox (since 1.10.5)
	DisableFilesystemIsolation    bool     // downloads are not confined to the task's folder
	FilesystemIsolationExtraPaths []string // what downloads can reach beyond the task's folder (since 1.8)
	SetEnvironmentVariables       string   // the agent's variables that downloads see, separated by commas
}

// ConfigServer is an agent's part as a server. Where a duration is 0, or a number nil, the server has its own default.
type ConfigServer struct {
	object

	Enabled bool // the agent is a server

	// The cluster.
	BootstrapExpect     int              // how many servers there are before the first leader is elected
	AuthoritativeRegion string           // the region whose tokens and policies all regions copy; empty for its own
	ServerJoin          ConfigServerJoin // how it finds servers at the start
	RejoinAfterLeave    bool             // it joins again at the start though it had left
	StartTimeout        time.Duration    // how long its start can take; default 30s (since 1.10.1)
	LogFile             string           // the server's log file (since 1.10.4)
	OIDCIssuer          string           // the issuer of workload identities; empty for no OIDC discovery (since 1.7)

	// What ServerJoin replaced in 0.10.
	StartJoin        []string      // as in ServerJoin
	RetryJoin        []string      // as in ServerJoin
	RetryMaxAttempts int           // as in ServerJoin
	RetryInterval    time.Duration // as in ServerJoin

	// Raft. Where a pointer is nil, it is not set.
	DataDir               string              // the server's folder; empty for server in the agent's
	RaftProtocol          int                 // the version of the protocol; default 3
	RaftMultiplier        *int                // a factor for all of Raft's times; default 1
	RaftSnapshotThreshold *int                // how many log entries start a snapshot
	RaftSnapshotInterval  *time.Duration      // the time between two looks at whether to make a snapshot
	RaftTrailingLogs      *int                // how many log entries stay after a snapshot
	RaftLogStoreConfig    *ConfigRaftLogStore // the store of Raft's log (since 2.0)
	RaftBoltConfig        *ConfigRaftBolt     // BoltDB as that store; RaftLogStoreConfig replaces it

	// Clients.
	HeartbeatGrace         time.Duration             // what a heartbeat can be late; default 10s
	MinHeartbeatTTL        time.Duration             // the least time between two heartbeats; default 10s
	MaxHeartbeatsPerSecond float64                   // heartbeats a second that it aims at; default 50
	FailoverHeartbeatTTL   time.Duration             // what clients have once another server leads; default 5m
	ClientIntroduction     *ConfigClientIntroduction // tokens for new clients; nil if it is not set (since 1.11)

	// Scheduling.
	NumSchedulers            *int                       // how many evaluations at once; default one for each CPU
	EnabledSchedulers        []string                   // its schedulers; empty for all
	DefaultSchedulerConfig   *ConfigScheduler           // what a new cluster starts with; nil if it is not set
	PlanRejectionTracker     ConfigPlanRejectionTracker // nodes that reject many plans
	PlanApplyPipeline        int                        // how many plans can wait for Raft; default 1 (since 2.0.5)
	DeploymentQueryRateLimit float64                    // queries a second of all deployments; default 100

	// Jobs. Where a pointer is nil, it is not set.
	JobDefaultPriority *int   // the priority of a job that has none; default 50
	JobMaxPriority     *int   // the highest priority; default 100
	JobMaxCount        *int   // the most instances of a job; default 50000 (since 1.11)
	JobMaxSourceSize   string // the size to which a job's source is kept; default 1M, 0 to keep none
	JobTrackedVersions int    // how many versions of a job are kept; default 6 (since 1.6.2)

	// Events and search.
	EnableEventBroker bool         // the event stream is on; default true
	EventBufferSize   int          // how many events are kept in memory; default 100
	Search            ConfigSearch // the search of the web interface

	// Garbage collection: for each kind the age at which it can be removed, for some the time between two collections.
	NodeGCThreshold           time.Duration // nodes that are down; default 24h
	JobGCInterval             time.Duration // between two of jobs; default 5m
	JobGCThreshold            time.Duration // jobs that ended; default 4h
	EvalGCThreshold           time.Duration // evaluations, but of batch jobs; default 1h
	BatchEvalGCThreshold      time.Duration // evaluations of batch jobs; default 24h
	DeploymentGCThreshold     time.Duration // deployments; default 1h
	CSIVolumeClaimGCInterval  time.Duration // between two of claims of CSI volumes; default 5m
	CSIVolumeClaimGCThreshold time.Duration // claims of CSI volumes; default 5m
	CSIPluginGCThreshold      time.Duration // CSI plugins; default 1h
	ACLTokenGCThreshold       time.Duration // ACL tokens that expired; default 1h
	RootKeyGCInterval         time.Duration // between two of encryption keys; default 10m
	RootKeyGCThreshold        time.Duration // encryption keys out of use; default 1h
	RootKeyRotationThreshold  time.Duration // the age at which a key is replaced, not removed; default 720h

	// Nomad Enterprise.
	LicensePath     string // the license's file
	LicenseEnv      Secret // the license itself, a secret; not redacted in Nomad's public source
	NonVotingServer bool   // it has no vote in Raft
	RedundancyZone  string // its redundancy zone
	UpgradeVersion  string // the version that upgrade migrations take it for; empty for Nomad's
	NonProduction   bool   // the cluster is not for production (since 2.0)
}

// ConfigClientIntroduction is how servers deal with clients that register for the first time.
type ConfigClientIntroduction struct {
	object

	Enforcement        string        // what a client without a token gets: none, warn or strict; empty for warn
	DefaultIdentityTTL time.Duration // how long a token is valid unless its request tells; 0 for the default, 5m
	MaxIdentityTTL     time.Duration // how long a token can be valid; 0 for the default, 30m
}

// ConfigRaftLogStore is where a server stores Raft's log.
type ConfigRaftLogStore struct {
	object

	Backend         string                  // boltdb or wal; empty for the default, boltdb
	BoltDB          *ConfigRaftBolt         // what boltdb does; nil if it is not set
	WAL             *ConfigRaftWAL          // what wal does; nil if it is not set
	DisableLogCache bool                    // the log is not cached in memory
	Verification    *ConfigRaftVerification // the check of what is stored; nil if it is not set
}

// ConfigRaftBolt is BoltDB as the store of Raft's log.
type ConfigRaftBolt struct {
	object

	NoFreelistSync bool // its list of free pages is not written to disk: faster, but the start takes longer
}

// ConfigRaftWAL is a write-ahead log as the store of Raft's log.
type ConfigRaftWAL struct {
	object

	SegmentSizeMB int // the size in MB at which a new segment begins; 0 for the default, 64
}

// ConfigRaftVerification is the check of Raft's log for corruption.
type ConfigRaftVerification struct {
	object

	Enabled  bool          // it is on
	Interval time.Duration // the time between two checks; 0 for the default, 5m
}

// ConfigScheduler is the configuration of the scheduler that a new cluster starts with.
type ConfigScheduler struct {
	object

	SchedulerAlgorithm            string           // binpack or spread
	PreemptionConfig              ConfigPreemption // which jobs can displace others
	MemoryOversubscriptionEnabled bool             // tasks can use more memory than they reserve
	RejectJobRegistration         bool             // only management tokens can register jobs
	PauseEvalBroker               bool             // the leader hands out no evaluations
	NodeLimitForFeasibilityChecks int              // how many nodes are looked at for spread; 0 for 100 (since 2.0.1)
	CreateIndex                   uint64           // the Raft index of its creation
	ModifyIndex                   uint64           // the Raft index of its last change
}

// ConfigPreemption is which kinds of jobs can displace jobs of a lower priority.
type ConfigPreemption struct {
	object

	SystemSchedulerEnabled   bool // system jobs can
	SysBatchSchedulerEnabled bool // system batch jobs can
	BatchSchedulerEnabled    bool // batch jobs can
	ServiceSchedulerEnabled  bool // service jobs can
}

// ConfigPlanRejectionTracker is what a server does about nodes that reject many plans.
type ConfigPlanRejectionTracker struct {
	object

	Enabled       bool          // such nodes become ineligible
	NodeThreshold int           // how many rejections it takes; default 100
	NodeWindow    time.Duration // the time in which they count; default 5m
}

// ConfigSearch is what a server does for searches.
type ConfigSearch struct {
	object

	FuzzyEnabled  bool // fuzzy search is on; default true
	LimitQuery    int  // how many objects a fuzzy search looks at; default 20
	LimitResults  int  // how many results it has; default 100
	MinTermLength int  // how long the text must be; default 2
}

// ConfigRPC is the sessions between agents, which carry many streams over one connection.
type ConfigRPC struct {
	object

	AcceptBacklog             int           // how many streams can wait to be accepted; default 256
	KeepAliveInterval         time.Duration // the time between two signs of life; default 30s
	KeepAliveIntervalHCL      time.Duration // KeepAliveInterval as it was written
	ConnectionWriteTimeout    time.Duration // after it, a write has failed; default 10s
	ConnectionWriteTimeoutHCL time.Duration // ConnectionWriteTimeout as it was written
	StreamOpenTimeout         time.Duration // how long a stream can wait for the peer; default 75s, 0 for no limit
	StreamOpenTimeoutHCL      time.Duration // StreamOpenTimeout as it was written
	StreamCloseTimeout        time.Duration // how long a stream can be half closed; default 5m
	StreamCloseTimeoutHCL     time.Duration // StreamCloseTimeout as it was written
	DialTimeout               time.Duration // how long a new connection can take; default 10s (since 2.0.1)
	DialTimeoutHCL            time.Duration // DialTimeout as it was written (since 2.0.1)
}

// ConfigLimits is limits on connections to an agent.
type ConfigLimits struct {
	object

	HTTPSHandshakeTimeout time.Duration // how long a TLS handshake of the HTTP API can take; default 5s, 0 for no limit
	HTTPMaxConnsPerClient int           // HTTP connections from one address; default 100, 0 for no limit
	RPCHandshakeTimeout   time.Duration // how long an RPC handshake can take; default 5s, 0 for no limit
	RPCMaxConnsPerClient  int           // RPC connections from one address; default 100, 0 for no limit
}

// ConfigACL is access control.
type ConfigACL struct {
	object

	Enabled               bool          // ACLs are enforced
	TokenTTL              time.Duration // how long tokens are cached; default 30s
	PolicyTTL             time.Duration // how long policies are cached; default 30s
	RoleTTL               time.Duration // how long roles are cached; default 30s
	ReplicationToken      Secret        // the token to copy tokens and policies with; redacted
	TokenMinExpirationTTL time.Duration // the least expiration that a token can have; 0 for the default, 1m
	TokenMaxExpirationTTL time.Duration // the most expiration that a token can have; 0 for the default, 24h
}

// ConfigTLS is certificates and how they are checked.
type ConfigTLS struct {
	object

	EnableHTTP                  bool                // the HTTP API has TLS
	EnableRPC                   bool                // RPC and Raft have TLS
	VerifyServerHostname        bool                // a server's certificate must be for server.<region>.nomad
	VerifyHTTPSClient           bool                // the HTTP API wants a certificate of its callers
	RPCUpgradeMode              bool                // servers accept RPC without TLS too, while a cluster changes to it
	CAFile                      string              // the file of the certificate authority
	CertFile                    string              // the file of the certificate
	KeyFile                     string              // the file of the certificate's key
	TLSMinVersion               string              // the lowest version, such as tls12; empty for Nomad's default
	TLSCipherSuites             string              // the cipher suites, separated by commas; empty for Nomad's default
	TLSPreferServerCipherSuites bool                // the server's order of cipher suites counts (until 1.8)
	Checksum                    string              // a SHA-256 of the files, by which the agent notices changes
	KeyLoader                   *ConfigTLSKeyLoader // a part of the agent's inside
}

// ConfigTLSKeyLoader is a part of an agent's inside that has nothing to tell. Nomad sends it without any key.
type ConfigTLSKeyLoader struct {
	object
}

// ConfigAutopilot is how servers are added to Raft and removed from it. A pointer is nil if it is not set.
type ConfigAutopilot struct {
	object

	CleanupDeadServers      *bool         // dead servers are removed when new ones come; default true
	LastContactThreshold    time.Duration // how long a healthy server can be without its leader; default 200ms
	MaxTrailingLogs         int           // how many log entries a healthy server can be behind; default 250
	MinQuorum               int           // the number of servers below which none is removed; 0 for none
	ServerStabilizationTime time.Duration // how long a new server must be healthy before it is added; default 10s
	EnableRedundancyZones   *bool         // redundancy zones are on; Nomad Enterprise
	DisableUpgradeMigration *bool         // upgrade migrations are off; Nomad Enterprise
	EnableCustomUpgrades    *bool         // upgrade migrations go by UpgradeVersion; Nomad Enterprise
}

// ConfigSentinel is policies in Sentinel. It is for Nomad Enterprise.
type ConfigSentinel struct {
	object

	Imports                  []ConfigSentinelImport // what policies can import beyond the standard
	AdditionalEnabledModules []string               // standard imports that are off unless listed here (since 1.11.2)
}

// ConfigSentinelImport is a program that policies can import.
type ConfigSentinelImport struct {
	object

	Name string   // the import's name
	Path string   // the program
	Args []string // the program's arguments
}

// ConfigAudit is the audit log. It is for Nomad Enterprise.
type ConfigAudit struct {
	object

	Enabled *bool               // it is on; nil if it is not set
	Sinks   []ConfigAuditSink   // where it goes
	Filters []ConfigAuditFilter // what is left out
}

// ConfigAuditSink is a place that the audit log goes to.
type ConfigAuditSink struct {
	object

	Name              string        // its name
	Type              string        // its kind: file
	Format            string        // its format: json
	DeliveryGuarantee string        // whether a request fails that cannot be logged: enforced or best-effort
	Path              string        // the file
	Mode              string        // the file's permissions, in octal
	RotateDuration    time.Duration // the age at which a new file begins
	RotateBytes       int           // the size in bytes at which a new file begins
	RotateMaxFiles    int           // how many old files are kept
}

// ConfigAuditFilter is what the audit log leaves out.
type ConfigAuditFilter struct {
	object

	Name       string   // its name
	Type       string   // the kind of event, such as HTTPEvent
	Endpoints  []string // the endpoints
	Stages     []string // the stages of a request
	Operations []string // the operations, such as GET
}

// ConfigReporting is reports of use for the license. It is for Nomad Enterprise.
type ConfigReporting struct {
	object

	License                  ConfigReportingLicense // reports of the license's use
	DisableUsageReporting    *bool                  // no reports of the product's use; nil if it is not set (since 2.0)
	ExportInterval           time.Duration          // the time between two reports; 0 for its default (since 1.8.3)
	SnapshotRetentionTime    time.Duration          // how long figures are kept; 0 for its default (since 1.10.2)
	SnapshotRetentionTimeHCL time.Duration          // SnapshotRetentionTime as it was written (since 1.10.2)
	NonProduction            bool                   // the server's NonProduction (since 2.0)
}

// ConfigReportingLicense is reports of the license's use.
type ConfigReportingLicense struct {
	object

	Enabled *bool // they are on; nil if it is not set
}

// ConfigConsul is how an agent works with a cluster of Consul. A pointer is nil if it is not set.
type ConfigConsul struct {
	object

	Name string // the cluster's name; default default (since 1.7)

	// The agent of Consul.
	Addr      string        // its address for HTTP
	GRPCAddr  string        // its address for gRPC; empty for none
	Namespace string        // the namespace of all calls; empty for none
	Auth      Secret        // the user and password for HTTP; not redacted
	Token     Secret        // the ACL token; redacted
	Timeout   time.Duration // how long a call can take; default 5s

	// TLS.
	EnableSSL  *bool  // calls have TLS
	VerifySSL  *bool  // Consul's certificate is checked
	ShareSSL   *bool  // native Connect applications get the TLS configuration too
	CAFile     string // the file of the certificate authority
	GRPCCAFile string // the file of the certificate authority for gRPC
	CertFile   string // the file of the certificate
	KeyFile    string // the file of the certificate's key

	// How agents find one another.
	AutoAdvertise      *bool    // the agent registers itself with Consul
	ChecksUseAdvertise *bool    // Consul checks the address that is advertised, not the one that is listened on
	ServerAutoJoin     *bool    // servers look for servers in Consul
	ClientAutoJoin     *bool    // clients look for servers in Consul
	Tags               []string // tags of the services that the agent registers

	// What the agent registers as a server.
	ServerServiceName            string // the service; default nomad
	ServerHTTPCheckName          string // the check of HTTP; default Nomad Server HTTP Check
	ServerRPCCheckName           string // the check of RPC; default Nomad Server RPC Check
	ServerSerfCheckName          string // the check of gossip; default Nomad Server Serf Check
	ServerFailuresBeforeCritical int    // how often a check fails until it is critical (since 1.7.3)
	ServerFailuresBeforeWarning  int    // how often a check fails until it warns (since 1.7.3)

	// What the agent registers as a client.
	ClientServiceName            string // the service; default nomad-client
	ClientHTTPCheckName          string // the check of HTTP; default Nomad Client HTTP Check
	ClientFailuresBeforeCritical int    // how often a check fails until it is critical (since 1.7.3)
	ClientFailuresBeforeWarning  int    // how often a check fails until it warns (since 1.7.3)

	// Workloads.
	ServiceIdentity           *ConfigIdentity // what services get for Consul (since 1.7)
	ServiceIdentityAuthMethod string          // the auth method for services; default nomad-workloads (since 1.7)
	TaskIdentity              *ConfigIdentity // what tasks get for Consul (since 1.7)
	TaskIdentityAuthMethod    string          // the auth method for tasks; default nomad-workloads (since 1.7)
	AllowUnauthenticated      *bool           // jobs need no Consul token of their submitter's (until 1.9)
}

// ConfigVault is how an agent works with a cluster of Vault. A pointer is nil if it is not set.
type ConfigVault struct {
	object

	Name    string // the cluster's name; default default (since 1.7)
	Enabled *bool  // jobs can use it

	// The cluster.
	Addr                string        // its URL; default https://vault.service.consul:8200
	Namespace           string        // the namespace of all calls; empty for none
	Token               Secret        // the server's token, a secret: redacted until 1.9, as it is since 1.10
	ConnectionRetryIntv time.Duration // the time between two tries to connect; default 30s

	// TLS.
	TLSSkipVerify *bool  // Vault's certificate is not checked
	TLSServerName string // the name in Vault's certificate; empty for the URL's host
	TLSCaFile     string // the file of the certificate authority
	TLSCaPath     string // the folder of certificate authorities
	TLSCertFile   string // the file of the certificate
	TLSKeyFile    string // the file of the certificate's key

	// Workloads.
	Role                 string          // the role of tokens for jobs that name none
	JWTAuthBackendPath   string          // the path of the auth method; default jwt-nomad (since 1.7)
	DefaultIdentity      *ConfigIdentity // what tasks get for Vault (since 1.7)
	TaskTokenTTL         time.Duration   // how long the tokens of tasks are valid; 0 for its default (until 1.9)
	AllowUnauthenticated *bool           // jobs need no Vault token of their submitter's (until 1.9)
}

// ConfigIdentity is an identity that workloads get for Consul or Vault. A pointer is nil if it is not set.
type ConfigIdentity struct {
	object

	Audience    []string          // whom it is for, the claim aud
	Env         *bool             // tasks have it in a variable of their environment
	File        *bool             // tasks have it in a file
	Filepath    string            // that file, where it is not the usual one (since 1.9)
	TTL         *time.Duration    // how long it is valid
	ExtraClaims map[string]string // claims that the operator adds (since 1.8.3)
}

// ConfigKEKProvider is a service that encrypts the keyring's keys. Nomad does not send its settings.
type ConfigKEKProvider struct {
	object

	Provider string // which: aead, awskms, azurekeyvault, gcpckms or transit
	Name     string // its name, where a provider is there more than once
	Active   bool   // it encrypts new keys
}

// ConfigPlugin is a plugin that has a configuration of its own.
type ConfigPlugin struct {
	object

	Name   string                     // the plugin's name
	Args   []string                   // the arguments that it is started with
	Config map[string]json.RawMessage // its configuration, which only the plugin knows; secrets in it are not redacted
}

// ConfigUI is the web interface.
type ConfigUI struct {
	object

	Enabled               bool                          // it is on; default true
	ShowCLIHints          bool                          // commands print links to it; default true (since 1.10)
	Consul                ConfigUILink                  // links to Consul's
	Vault                 ConfigUILink                  // links to Vault's
	Label                 ConfigUILabel                 // a label that tells clusters apart
	ContentSecurityPolicy ConfigUIContentSecurityPolicy // what its pages can load
}

// ConfigUILink is where another web interface is.
type ConfigUILink struct {
	object

	BaseUIURL string // its URL; empty for no links
}

// ConfigUILabel is a label in the web interface.
type ConfigUILabel struct {
	object

	Text            string // what it says; empty for none
	BackgroundColor string // its background
	TextColor       string // its text's color
}

// ConfigUIContentSecurityPolicy is the header Content-Security-Policy of the web interface: sources by directive.
type ConfigUIContentSecurityPolicy struct {
	object

	DefaultSrc     []string // default-src; default 'none'
	ConnectSrc     []string // connect-src; default *
	ImgSrc         []string // img-src; default 'self' data:
	ScriptSrc      []string // script-src; default 'self'
	StyleSrc       []string // style-src; default 'self' 'unsafe-inline'
	FormAction     []string // form-action; default 'none'
	FrameAncestors []string // frame-ancestors; default 'none'
}

// ConfigTelemetry is which metrics an agent has and where they go.
type ConfigTelemetry struct {
	object

	CollectionInterval         time.Duration // the time between two collections; default 1s
	InMemoryCollectionInterval time.Duration // what one sample of the metrics API spans; default 10s (since 1.7.7)
	InMemoryRetentionPeriod    time.Duration // how long the metrics API has a sample; default 1m (since 1.7.7)

	// What there is.
	PublishAllocationMetrics           bool     // metrics of allocations
	PublishNodeMetrics                 bool     // metrics of nodes
	IncludeAllocMetadataInMetrics      bool     // allocations' metadata as labels (since 1.9)
	AllowedMetadataKeysInMetrics       []string // the keys of that metadata (since 1.9)
	DisableDispatchedJobSummaryMetrics bool     // no summaries of jobs that were dispatched
	DisableQuotaUtilizationMetrics     bool     // no use of quotas (since 1.8.1)
	DisableAllocationHookMetrics       bool     // no metrics of allocations' hooks (since 1.9.4)
	DisableRPCRateMetricsLabels        bool     // no label for who made an RPC
	PrefixFilter                       []string // prefixes of names, +allowed or -blocked
	FilterDefault                      *bool    // whether a metric stays that no prefix matches; nil if it is not set

	// What it is called.
	DisableHostname bool // names do not start with the host's
	UseNodeName     bool // names start with the node's name instead

	// Where it goes. An empty address is none.
	PrometheusMetrics bool     // the metrics API has the format of Prometheus too
	StatsiteAddr      string   // the address of statsite
	StatsdAddr        string   // the address of statsd
	DataDogAddr       string   // the address of DataDog's statsd
	DataDogTags       []string // tags of all metrics for DataDog

	// Circonus: the API.
	CirconusAPIToken           Secret        // its token; redacted
	CirconusAPIApp             string        // the application that the token is for; empty for nomad
	CirconusAPIURL             string        // its URL; empty for Circonus' own
	CirconusSubmissionInterval time.Duration // the time between two submissions; 0 for 10s

	// Circonus: the check.
	CirconusCheckSubmissionURL         string // its URL, where it exists already
	CirconusCheckID                    string // its ID, where it exists already
	CirconusCheckForceMetricActivation string // whether metrics that are not active become so, as text: true or false
	CirconusCheckInstanceID            string // where its metrics come from; empty for host and application
	CirconusCheckSearchTag             string // the tag to find it by
	CirconusCheckTags                  string // its tags, separated by commas
	CirconusCheckDisplayName           string // its name for people; empty for CirconusCheckInstanceID

	// Circonus: the broker.
	CirconusBrokerID        string // its ID; empty for any
	CirconusBrokerSelectTag string // the tag to find it by
}

// ConfigEventlog is an agent's log in the event log of Windows.
type ConfigEventlog struct {
	object

	Enabled bool   // it goes there too
	Level   string // the lowest level that does: info, warn or error; default error
}
