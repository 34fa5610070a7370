package engine

import (
	"encoding/json"
	"os"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// owner is who made something on a container engine: only where it lives can be known
// whether it does.
type owner struct {
	Process procid.ID `json:"process"`
	// Namespace is that of its process ids.
	Namespace string `json:"pid_namespace,omitempty"`
}

// ownerLabel is this process as an owner, as text.
func ownerLabel() (string, error) {
	self, err := procid.Self()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(owner{Process: self, Namespace: pidNamespace()})
	return string(text), err
}

// pidNamespace tells apart the worlds in which a pid means something; "" where there
// is only one.
func pidNamespace() string {
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	return namespace
}

// isDead reports whether the owner that a label tells is known to be dead.
func isDead(label, host string) bool {
	var o owner
	here, _ := os.Hostname()
	if json.Unmarshal([]byte(label), &o) != nil || host != here || o.Namespace != pidNamespace() || o.Process.PID <= 0 {
		return false
	}
	self, err := procid.Self()
	return err == nil && o.Process.Boot == self.Boot && !o.Process.Alive()
}
