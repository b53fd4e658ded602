package nomadtest

import "net/http"

type hostJSON struct {
	Disk        map[string]diskJSON
	Environment map[string]string
	Hosts       string
	Network     []map[string]string
	OS          string
	ResolvConf  string
}

type diskJSON struct{ DiskMB, UsedMB int }

// machine is the fictitious host of all agents.
var machine = hostJSON{
	Disk:        map[string]diskJSON{"/": {DiskMB: 251955, UsedMB: 98304}},
	Environment: map[string]string{"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "VAULT_TOKEN": "<redacted>"},
	Hosts:       "127.0.0.1\tlocalhost\n192.0.2.10\tnomad-host\n",
	Network: []map[string]string{{
		"type": "IPv4", "address": "127.0.0.1", "host": "127.0.0.1", "string": "127.0.0.1/8", "port": "0", "mask_bits": "8",
		"network": "127.0.0.0", "netmask": "255.0.0.0", "broadcast": "127.255.255.255", "size": "16777216",
		"first_usable": "127.0.0.1", "last_usable": "127.255.255.254", "octets": "127 0 0 1", "hex": "7f000001",
		"uint32": "2130706433", "binary": "01111111000000000000000000000001",
		"DialPacket": `"udp4" ""`, "DialStream": `"tcp4" ""`, "ListenPacket": `"udp4" ""`, "ListenStream": `"tcp4" ""`,
	}},
	OS:         "6.1.0-29-amd64 #1 SMP Debian x86_64",
	ResolvConf: "nameserver 192.0.2.53\n",
}

// streamHost handles host. It is called without the lock.
func (a *Agent) streamHost(w http.ResponseWriter, r *http.Request) error {
	var complaint error
	result, err := a.decide(func(a *Agent, r *http.Request) (any, error) { return a.host(r, &complaint) }, r)
	complain(w, complaint)
	if err == nil {
		writeJSON(w, r, result)
	}
	return err
}

func (a *Agent) host(r *http.Request, complaint *error) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, resolved, agentRead); err != nil {
		return nil, err
	}
	if err := a.mayDebug(); err != nil {
		return nil, err
	}
	values := r.URL.Query()
	to := aim{node: values.Get("node_id"), server: values.Get("server_id"), each: (*Agent).mayDebug}
	switch {
	case to.server != "" && to.node != "":
		return nil, refusef(400, "Can only forward to either client node or server")
	case to.server == "" && to.node == "":
		return machine, nil
	}
	q, err := a.parse(r)
	to.region, *complaint = q.region, err
	answer := struct {
		AgentID  string
		HostData hostJSON
	}{HostData: machine}
	if a.isLocalNode(to.node) || a.isLocalNode(to.server) {
		answer.AgentID = a.node
		return answer, nil
	}
	found, err := ask(a, func(server *Agent) (*Agent, error) { return server.reach(to) })
	if err != nil {
		return nil, err
	}
	answer.AgentID = found.fullName()
	if to.node != "" {
		answer.AgentID = found.node
	}
	return answer, nil
}

// mayDebug returns an error unless enable_debug or ACLs are on.
func (a *Agent) mayDebug() error {
	if !a.acls && !a.debug {
		return errPermission
	}
	return nil
}
