package agentconfig

import (
	"time"

	"github.com/nomad-go/nomad/secret"
)

// Client is the settings of a client agent.
type Client struct {
	Enabled bool // the agent is a client

	// Node.
	NodeClass         string                   // class, any text for use in constraints
	NodePool          string                   // node pool; default "default"
	Meta              map[string]string        // metadata
	Options           map[string]secret.Secret // settings of fingerprinters and drivers by name; they may be secret
	DefaultIneligible bool                     // a new node is not eligible for scheduling (since 2.0.3)
	NoHostUUID        bool                     // the node ID is random, not derived from the host's; default true
	NodeMaxAllocs     int                      // most allocations on the node; 0 for no limit (since 1.10.2)
	IntroToken        secret.Secret            // token to register a new node; not redacted by the agent (since 1.11)

	// Servers.
	Servers    []string   // addresses of servers, each host:port
	ServerJoin ServerJoin // how the client finds servers at its start

	// Folders, and the log file. The default of a folder depends on DataDir.
	StateDir            string // state of the client
	AllocDir            string // data of allocations
	AllocMountsDir      string // mounts of the allocations' data (since 1.8)
	HostVolumesDir      string // dynamic host volumes (since 1.10)
	HostVolumePluginDir string // plugins for dynamic host volumes (since 1.10)
	CommonPluginDir     string // plugins of the common kind (since 1.11)
	LogFile             string // log file of the client (since 1.10.4)

	// Resources that replace what the fingerprinters find. 0 or empty leaves it to them.
	CpuCompute          int      // total CPU in MHz
	CpuDisableDmidecode bool     // CPU speed is measured without dmidecode (since 1.9.7)
	MemoryMB            int      // total memory in MB
	DiskTotalMB         int      // total disk in MB
	DiskFreeMB          int      // free disk in MB
	NetworkSpeed        int      // speed of the network in megabits a second
	ReservableCores     string   // cores that jobs can reserve, such as 0-3,8 (since 1.7)
	ReserveableCores    string   // ReservableCores under its older name (until 1.6)
	Reserved            Reserved // resources that jobs cannot use

	// Network.
	NetworkInterface               string        // interface to fingerprint; empty for that of the default route
	PreferredAddressFamily         string        // ipv4 or ipv6; empty for no preference (since 1.8.2)
	MinDynamicPort, MaxDynamicPort int           // range of dynamic ports; default 20000 to 32000
	ClientMinPort, ClientMaxPort   int           // ports for plugins; default 14000 to 14512
	HostNetworks                   []HostNetwork // named networks of the host
	BindWildcardDefaultHostNetwork bool          // mapped ports bind to all addresses; default true
	BridgeNetworkName              string        // bridge for mode bridge; empty for the default, nomad
	BridgeNetworkSubnet            string        // IPv4 subnet of the bridge; empty for the default, 172.26.64.0/20
	BridgeNetworkSubnetIPv6        string        // IPv6 subnet of the bridge; empty for none (since 1.9)
	BridgeNetworkHairpinMode       bool          // hairpin mode of the bridge
	CNIPath                        string        // folders of CNI plugins, separated by colons
	CNIConfigDir                   string        // folder of CNI networks; default /opt/cni/config
	NomadServiceDiscovery          bool          // Nomad's own service discovery is enabled; default true

	// Tasks.
	MaxKillTimeout    time.Duration     `wire:"text"` // longest kill timeout of a task; default 30s
	DisableRemoteExec bool              // no commands can be executed in allocations
	ChrootEnv         map[string]string // paths in the chroot of a task, by path on the host
	CgroupParent      string            // cgroup above those of Nomad; empty for Nomad's default
	HostVolumes       []HostVolume      // folders of the host that jobs can mount
	TemplateConfig    Template          // rendering of templates
	Artifact          Artifact          // download of artifacts
	Users             Users             // users created for tasks (since 1.8)

	// Fingerprinters that have settings (since 1.11.2).
	Fingerprinters []Fingerprint

	// Drain of the node when the agent stops; nil for none.
	Drain *Drain

	// Garbage collection of allocations that ended.
	GCInterval            time.Duration // time between two collections; default 1m
	GCParallelDestroys    int           // allocations removed at once; default 2
	GCDiskUsageThreshold  float64       // percentage of disk in use that starts a collection; default 80
	GCInodeUsageThreshold float64       // percentage of inodes in use that starts a collection; default 70
	GCMaxAllocs           int           // number of allocations that starts a collection; default 50
	GCVolumesOnNodeGC     bool          // when servers remove the node, they remove its dynamic host volumes too (since 1.10.2)
}

// Reserved is resources of a client that jobs cannot use.
type Reserved struct {
	CPU           int    // CPU in MHz
	Cores         string // cores, such as 0-3,8
	MemoryMB      int    // memory in MB
	DiskMB        int    // disk in MB
	ReservedPorts string // ports, such as 22,80,8500-8600
}

// HostVolume is a folder of the host that jobs can mount.
type HostVolume struct {
	Name     string // name
	Path     string // folder
	ReadOnly bool   // jobs can only read it
	ID       string // ID of a dynamic host volume; empty for a configured one (since 1.10)
}

// HostNetwork is a network of the host that jobs can select by name.
type HostNetwork struct {
	Name          string // name
	CIDR          string // addresses that belong to it
	Interface     string // interface that belongs to it
	ReservedPorts string // ports that jobs cannot use on it, such as 22,80
}

// Drain is how a client drains its node when the agent stops, the block drain_on_shutdown.
type Drain struct {
	Deadline         *time.Duration `wire:"text"` // time limit for allocations to stop; nil for the default, 1h
	IgnoreSystemJobs *bool          // allocations of system jobs stay; nil for false
	Force            *bool          // all allocations stop at once, whatever the migrate block says; nil for false
}

// Fingerprint is the settings of a fingerprinter for a cloud environment.
type Fingerprint struct {
	Name             string        // name, such as env_aws
	RetryInterval    time.Duration // time between two attempts
	RetryIntervalHCL time.Duration `wire:"text"` // RetryInterval in the configuration file
	RetryAttempts    int           // number of retries; -1 for no limit
	ExitOnFailure    *bool         // the agent exits after the last attempt; nil if not set
}

// Users is the range of users that a client creates for tasks.
type Users struct {
	MinDynamicUser int // lowest user and group ID; default 80000, -1 to disable
	MaxDynamicUser int // highest user and group ID; default 89999, -1 to disable
}

// Template is how a client renders templates.
type Template struct {
	DisableSandbox       bool     // templates can read files of the host
	FunctionDenylist     []string // functions that templates cannot use
	FunctionBlacklist    []string // FunctionDenylist under its older name
	UseClientConsulToken bool     // templates use the client's own Consul token (since 2.0.4)

	// Age of stale data from Consul that templates accept; default 87600h in Nomad 2.0.
	MaxStale    *time.Duration
	MaxStaleHCL time.Duration `wire:"text"` // MaxStale in the configuration file

	// Time that a query waits for a change; default 5m in Nomad 2.0.
	BlockQueryWaitTime    *time.Duration
	BlockQueryWaitTimeHCL time.Duration `wire:"text"` // BlockQueryWaitTime in the configuration file

	// Time after which a secret of Vault without a lease is read again; default 5m (since 2.0.4).
	VaultDefaultLeaseDuration    *time.Duration
	VaultDefaultLeaseDurationHCL time.Duration `wire:"text"` // VaultDefaultLeaseDuration in the configuration file

	// Time that data must stay unchanged before a template is rendered (both since 1.9).
	Wait       *Wait // for templates that set none; default 5s to 4m in Nomad 2.0
	WaitBounds *Wait // limits for templates that set it; nil for no limits

	// Retries after an error; default 12 attempts, 250ms and 1m in Nomad 2.0.
	ConsulRetry *Retry // from Consul
	VaultRetry  *Retry // from Vault
	NomadRetry  *Retry // from Nomad
}

// Wait is the time that data must stay unchanged before a template is rendered.
type Wait struct {
	Min    *time.Duration // shortest time; nil if not set
	MinHCL time.Duration  `wire:"text"` // Min in the configuration file
	Max    *time.Duration // longest time; nil if not set
	MaxHCL time.Duration  `wire:"text"` // Max in the configuration file
}

// Retry is how often and when a failed request is repeated.
type Retry struct {
	Attempts      *int           // number of attempts; 0 for no limit, nil if not set
	Backoff       *time.Duration // first pause, which doubles each time; nil if not set
	BackoffHCL    time.Duration  `wire:"text"` // Backoff in the configuration file (since 1.9)
	MaxBackoff    *time.Duration // longest pause; 0 for no limit, nil if not set
	MaxBackoffHCL time.Duration  `wire:"text"` // MaxBackoff in the configuration file (since 1.9)
}

// Artifact is limits on the download of artifacts.
type Artifact struct {
	// Time limits of a download, by its kind; default 30m each.
	HTTPReadTimeout time.Duration `wire:"text"` // HTTP
	GCSTimeout      time.Duration `wire:"text"` // Google Cloud Storage
	GitTimeout      time.Duration `wire:"text"` // Git
	HgTimeout       time.Duration `wire:"text"` // Mercurial
	S3Timeout       time.Duration `wire:"text"` // S3

	HTTPMaxSize                 string // largest download by HTTP; default 100GB
	DecompressionSizeLimit      string // largest size of an unpacked archive; default 100GB
	DecompressionFileCountLimit int    // most files in an archive; default 4096

	DisableArtifactInspection     bool     // artifacts are not searched for paths out of the sandbox (since 1.10.5)
	DisableFilesystemIsolation    bool     // downloads are not confined to the folder of the task
	FilesystemIsolationExtraPaths []string // paths beyond that folder that downloads can use (since 1.8)
	SetEnvironmentVariables       string   // names of the agent's variables that downloads get, separated by commas
}
