package agentconfig

import (
	"time"

	"github.com/nomad-go/nomad/secret"
)

// Server is the settings of a server agent. A duration of 0 and a nil pointer stand for the server's own default.
type Server struct {
	Enabled bool // the agent is a server

	// Cluster.
	BootstrapExpect     int           // number of servers before the first leader is elected
	AuthoritativeRegion string        // region whose tokens and policies all regions copy; empty for the server's own region
	ServerJoin          ServerJoin    // how the server finds others at its start
	RejoinAfterLeave    bool          // the server joins again at its start although it had left
	StartTimeout        time.Duration `wire:"text"` // time limit of its start; default 30s (since 1.10.1)
	LogFile             string        // log file of the server (since 1.10.4)
	OIDCIssuer          Endpoint      // issuer of workload identities; empty for no OIDC discovery (since 1.7)

	// Replaced by ServerJoin in 0.10.
	StartJoin        []Endpoint    // as in ServerJoin
	RetryJoin        []Endpoint    // as in ServerJoin
	RetryMaxAttempts int           // as in ServerJoin
	RetryInterval    time.Duration // as in ServerJoin

	// Raft.
	DataDir               string         // folder of the server's state; empty for the folder server in Config.DataDir
	RaftProtocol          int            // version of the protocol; default 3
	RaftMultiplier        *int           // factor for the timeouts of Raft; default 1
	RaftSnapshotThreshold *int           // number of log entries that starts a snapshot
	RaftSnapshotInterval  *time.Duration // time between two checks of that number
	RaftTrailingLogs      *int           // number of log entries that stay after a snapshot
	RaftLogStoreConfig    *RaftLogStore  // store of Raft's log (since 2.0)
	RaftBoltConfig        *RaftBolt      // settings of BoltDB as the store of Raft's log; RaftLogStoreConfig replaces it

	// Clients.
	HeartbeatGrace         time.Duration       // time that a heartbeat may be late; default 10s
	MinHeartbeatTTL        time.Duration       // shortest time between two heartbeats; default 10s
	MaxHeartbeatsPerSecond float64             // target rate of heartbeats of all clients; default 50
	FailoverHeartbeatTTL   time.Duration       // heartbeat TTL after a change of the leader; default 5m
	ClientIntroduction     *ClientIntroduction // tokens for new clients; nil if not set (since 1.11)

	// Scheduling.
	NumSchedulers            *int                 // evaluations processed at once; default one for each CPU
	EnabledSchedulers        []string             // schedulers that run; empty for all
	DefaultSchedulerConfig   *SchedulerConfig     // initial settings of a new cluster; nil if not set
	PlanRejectionTracker     PlanRejectionTracker // handling of nodes that reject many plans
	PlanApplyPipeline        int                  // plans that may wait for Raft; default 1 (since 2.0.5)
	DeploymentQueryRateLimit float64              // queries of deployments a second; default 100

	// Jobs.
	JobDefaultPriority *int   // priority of a job that sets none; default 50
	JobMaxPriority     *int   // highest priority; default 100
	JobMaxCount        *int   // most instances of a job; default 50000 (since 1.11)
	JobMaxSourceSize   string // size up to which the source of a job is kept; default 1M, 0 for none
	JobTrackedVersions int    // versions of a job that are kept; default 6 (since 1.6.2)

	// Events and search.
	EnableEventBroker bool   // the event stream is enabled; default true
	EventBufferSize   int    // events kept in memory; default 100
	Search            Search // search of the web interface

	// Garbage collection: the age at which objects can be removed, and for some the time between two collections.
	NodeGCThreshold           time.Duration `wire:"text"` // nodes that are down; default 24h
	JobGCInterval             time.Duration `wire:"text"` // time between two collections of jobs; default 5m
	JobGCThreshold            time.Duration `wire:"text"` // jobs that ended; default 4h
	EvalGCThreshold           time.Duration `wire:"text"` // evaluations, except for batch jobs; default 1h
	BatchEvalGCThreshold      time.Duration `wire:"text"` // evaluations for batch jobs; default 24h
	DeploymentGCThreshold     time.Duration `wire:"text"` // deployments; default 1h
	CSIVolumeClaimGCInterval  time.Duration `wire:"text"` // time between two collections of CSI volume claims; default 5m
	CSIVolumeClaimGCThreshold time.Duration `wire:"text"` // claims of CSI volumes; default 5m
	CSIPluginGCThreshold      time.Duration `wire:"text"` // CSI plugins; default 1h
	ACLTokenGCThreshold       time.Duration `wire:"text"` // expired ACL tokens; default 1h
	RootKeyGCInterval         time.Duration `wire:"text"` // time between two collections of encryption keys; default 10m
	RootKeyGCThreshold        time.Duration `wire:"text"` // encryption keys out of use; default 1h
	RootKeyRotationThreshold  time.Duration `wire:"text"` // age at which a key is replaced, not removed; default 720h

	// Nomad Enterprise.
	LicensePath     string        // file of the license
	LicenseEnv      secret.Secret // license; the open-source version of Nomad does not redact it
	NonVotingServer bool          // the server has no vote in Raft
	RedundancyZone  string        // redundancy zone
	UpgradeVersion  string        // version for upgrade migrations; empty for that of Nomad
	NonProduction   bool          // the cluster is not for production (since 2.0)
}

// ClientIntroduction is how servers treat clients that register for the first time.
type ClientIntroduction struct {
	Enforcement        string        // handling of a client without a token: none, warn or strict; empty for warn
	DefaultIdentityTTL time.Duration // validity of a token that is created without one; 0 for the default, 5m
	MaxIdentityTTL     time.Duration // longest validity of a token; 0 for the default, 30m
}

// RaftLogStore is where a server stores the log of Raft.
type RaftLogStore struct {
	Backend         string            // boltdb or wal; empty for the default, boltdb
	BoltDB          *RaftBolt         // settings of boltdb; nil if not set
	WAL             *RaftWAL          // settings of wal; nil if not set
	DisableLogCache bool              // the log is not cached in memory
	Verification    *RaftVerification // verification of what is stored; nil if not set
}

// RaftBolt is the settings of BoltDB as the store of Raft's log.
type RaftBolt struct {
	NoFreelistSync bool // the list of free pages is not written to disk: writes are faster, but a start is slower
}

// RaftWAL is the settings of a write-ahead log as the store of Raft's log.
type RaftWAL struct {
	SegmentSizeMB int // size in MB at which a new segment begins; 0 for the default, 64
}

// RaftVerification is the verification of Raft's log, which detects corruption.
type RaftVerification struct {
	Enabled  bool          // verification is enabled
	Interval time.Duration // time between two verifications; 0 for the default, 5m
}

// SchedulerConfig is the settings of the scheduler that a new cluster starts with.
type SchedulerConfig struct {
	SchedulerAlgorithm            string     // binpack or spread
	PreemptionConfig              Preemption // kinds of jobs that can preempt others
	MemoryOversubscriptionEnabled bool       // tasks can use more memory than they reserve
	RejectJobRegistration         bool       // only management tokens can register jobs
	PauseEvalBroker               bool       // the leader hands out no evaluations
	NodeLimitForFeasibilityChecks int        // nodes that are checked for spread; 0 for 100 (since 2.0.1)
	CreateIndex                   uint64     // Raft index of its creation
	ModifyIndex                   uint64     // Raft index of its last change
}

// Preemption is which kinds of jobs can preempt jobs of a lower priority.
type Preemption struct {
	SystemSchedulerEnabled   bool // system jobs
	SysBatchSchedulerEnabled bool // system batch jobs
	BatchSchedulerEnabled    bool // batch jobs
	ServiceSchedulerEnabled  bool // service jobs
}

// PlanRejectionTracker is how a server handles nodes that reject many plans.
type PlanRejectionTracker struct {
	Enabled       bool          // nodes that reject too many plans become ineligible
	NodeThreshold int           // number of rejections; default 100
	NodeWindow    time.Duration // period in which rejected plans are counted; default 5m
}

// Search is the settings of searches.
type Search struct {
	FuzzyEnabled  bool // fuzzy search is enabled; default true
	LimitQuery    int  // objects that a fuzzy search examines; default 20
	LimitResults  int  // most results; default 100
	MinTermLength int  // shortest search term; default 2
}

// Autopilot is how servers are added to Raft and removed from it. A nil pointer is not set.
type Autopilot struct {
	CleanupDeadServers      *bool         // dead servers are removed when new ones join; default true
	LastContactThreshold    time.Duration // time that a healthy server may be without its leader; default 200ms
	MaxTrailingLogs         int           // log entries that a healthy server may be behind; default 250
	MinQuorum               int           // autopilot removes no server if fewer than this number would remain; 0 for no such limit
	ServerStabilizationTime time.Duration // time that a new server must be healthy before it is added; default 10s
	EnableRedundancyZones   *bool         // redundancy zones are enabled; Nomad Enterprise
	DisableUpgradeMigration *bool         // upgrade migrations are disabled; Nomad Enterprise
	EnableCustomUpgrades    *bool         // upgrade migrations use UpgradeVersion; Nomad Enterprise
}
