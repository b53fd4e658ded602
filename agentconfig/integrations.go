package agentconfig

import (
	"time"

	"github.com/nomad-go/nomad/secret"
)

// Consul is how an agent uses a Consul cluster. A nil pointer is not set.
type Consul struct {
	Name string // name of the cluster; default "default" (since 1.7)

	// Agent of Consul.
	Addr      Endpoint      // address for HTTP
	GRPCAddr  Endpoint      // address for gRPC; empty for none
	Namespace string        // namespace of all requests; empty for none
	Auth      secret.Secret // user and password for HTTP; not redacted by the agent
	Token     secret.Secret // ACL token; redacted by the agent
	Timeout   time.Duration // time limit of a request; default 5s

	// TLS.
	EnableSSL  *bool  // requests use TLS
	VerifySSL  *bool  // the certificate of Consul is verified
	ShareSSL   *bool  // native Connect applications get the TLS settings too
	CAFile     string // file of the certificate authority
	GRPCCAFile string // file of the certificate authority for gRPC
	CertFile   string // file of the certificate
	KeyFile    string // file of the certificate's private key

	// Discovery of agents.
	AutoAdvertise      *bool    // the agent registers itself in Consul
	ChecksUseAdvertise *bool    // Consul checks the advertised address instead of the bind address
	ServerAutoJoin     *bool    // servers find other servers in Consul
	ClientAutoJoin     *bool    // clients find servers in Consul
	Tags               []string // tags of the services that the agent registers

	// Registration of a server.
	ServerServiceName            string // name of the service; default nomad
	ServerHTTPCheckName          string // check of HTTP; default Nomad Server HTTP Check
	ServerRPCCheckName           string // check of RPC; default Nomad Server RPC Check
	ServerSerfCheckName          string // check of gossip; default Nomad Server Serf Check
	ServerFailuresBeforeCritical int    // failures until a check is critical (since 1.7.3)
	ServerFailuresBeforeWarning  int    // failures until a check is a warning (since 1.7.3)

	// Registration of a client.
	ClientServiceName            string // name of the service; default nomad-client
	ClientHTTPCheckName          string // check of HTTP; default Nomad Client HTTP Check
	ClientFailuresBeforeCritical int    // failures until a check is critical (since 1.7.3)
	ClientFailuresBeforeWarning  int    // failures until a check is a warning (since 1.7.3)

	// Workloads.
	ServiceIdentity           *Identity // identity of services for Consul (since 1.7)
	ServiceIdentityAuthMethod string    // auth method of services; default nomad-workloads (since 1.7)
	TaskIdentity              *Identity // identity of tasks for Consul (since 1.7)
	TaskIdentityAuthMethod    string    // auth method of tasks; default nomad-workloads (since 1.7)
	AllowUnauthenticated      *bool     // jobs can be submitted without a Consul token (until 1.9)
}

// Vault is how an agent uses a Vault cluster. A nil pointer is not set.
type Vault struct {
	Name    string // name of the cluster; default "default" (since 1.7)
	Enabled *bool  // jobs can use it

	// Cluster.
	Addr                Endpoint      // URL; default https://vault.service.consul:8200
	Namespace           string        // namespace of all requests; empty for none
	Token               secret.Secret // token of the server; redacted by the agent until 1.9, not since 1.10
	ConnectionRetryIntv time.Duration // time between two attempts to connect; default 30s

	// TLS.
	TLSSkipVerify *bool  // the certificate of Vault is not verified
	TLSServerName string // name in the certificate of Vault; empty for the host of the URL
	TLSCaFile     string // file of the certificate authority
	TLSCaPath     string // folder of certificate authorities
	TLSCertFile   string // file of the certificate
	TLSKeyFile    string // file of the certificate's private key

	// Workloads.
	Role                 string        // role of tokens for jobs that name none
	JWTAuthBackendPath   string        // path of the auth method; default jwt-nomad (since 1.7)
	DefaultIdentity      *Identity     // identity of tasks for Vault (since 1.7)
	TaskTokenTTL         time.Duration `wire:"text"` // validity of the tokens of tasks; 0 for the default (until 1.9)
	AllowUnauthenticated *bool         // jobs can be submitted without a Vault token (until 1.9)
}

// Identity is an identity that workloads get for Consul or Vault. A nil pointer is not set.
type Identity struct {
	Audience    []string          // recipients, the claim aud
	Env         *bool             // tasks get it in an environment variable
	File        *bool             // tasks get it in a file
	Filepath    string            // path of that file; empty for the usual one (since 1.9)
	TTL         *time.Duration    // validity
	ExtraClaims map[string]string // claims that the operator adds (since 1.8.3)
}

// Telemetry is which metrics an agent has and where it sends them.
type Telemetry struct {
	CollectionInterval         time.Duration `wire:"text"` // time between two collections; default 1s
	InMemoryCollectionInterval time.Duration `wire:"text"` // span of a metrics API sample; default 10s (since 1.7.7)
	InMemoryRetentionPeriod    time.Duration `wire:"text"` // age of the oldest sample; default 1m (since 1.7.7)

	// Metrics.
	PublishAllocationMetrics           bool     // metrics of allocations
	PublishNodeMetrics                 bool     // metrics of nodes
	IncludeAllocMetadataInMetrics      bool     // metadata of allocations as labels (since 1.9)
	AllowedMetadataKeysInMetrics       []string // keys of that metadata (since 1.9)
	DisableDispatchedJobSummaryMetrics bool     // no summaries of dispatched jobs
	DisableQuotaUtilizationMetrics     bool     // no metrics of quotas (since 1.8.1)
	DisableAllocationHookMetrics       bool     // no metrics of the hooks of allocations (since 1.9.4)
	DisableRPCRateMetricsLabels        bool     // no label for the caller of an RPC
	PrefixFilter                       []string // prefixes of names, +allowed or -blocked
	FilterDefault                      *bool    // metrics that match no prefix are sent; nil if not set

	// Names of metrics.
	DisableHostname bool // names do not begin with the name of the host
	UseNodeName     bool // names begin with the name of the node instead of the host

	// Destinations. An empty address is none.
	PrometheusMetrics bool     // the metrics API supports the format of Prometheus
	StatsiteAddr      string   // address of statsite
	StatsdAddr        string   // address of statsd
	DataDogAddr       string   // address of DataDog's statsd
	DataDogTags       []string // tags of all metrics for DataDog

	// Circonus: API.
	CirconusAPIToken           secret.Secret // token; redacted by the agent
	CirconusAPIApp             string        // application of the token; empty for nomad
	CirconusAPIURL             Endpoint      // URL; empty for the usual one
	CirconusSubmissionInterval time.Duration `wire:"text"` // time between two submissions; 0 for 10s

	// Circonus: check.
	CirconusCheckSubmissionURL         secret.Secret // URL of an existing check, which holds a secret
	CirconusCheckID                    string        // ID of an existing check
	CirconusCheckForceMetricActivation string        // activation of inactive metrics: true or false
	CirconusCheckInstanceID            string        // source of the metrics; empty for host and application
	CirconusCheckSearchTag             string        // tag to find the check by
	CirconusCheckTags                  string        // tags of the check, separated by commas
	CirconusCheckDisplayName           string        // name for display; empty for CirconusCheckInstanceID

	// Circonus: broker.
	CirconusBrokerID        string // ID; empty for any
	CirconusBrokerSelectTag string // tag to find the broker by
}
