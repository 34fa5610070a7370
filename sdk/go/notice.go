package flowctl

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// notice keeps what has been told, so that it is told once.
type notice struct {
	mu   sync.Mutex // guards told
	told string     // "" if nothing stands
}

// fresh reports whether cause is to be told, and takes it as told: if it is
// another one than before, and, if it is not sure, the first.
func (n *notice) fresh(cause string, sure bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cause == n.told || !sure && n.told != "" {
		return false
	}
	n.told = cause
	return true
}

// stands reports whether something has been told that still holds.
func (n *notice) stands() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told != ""
}

// clear is called when what was told no longer holds.
func (n *notice) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = ""
}

// refused tells why a connection has come to nothing, once for each cause.
func (l *link) refused(err error) {
	cause, sure := l.target.refusal(err)
	if l.connecting.fresh(cause, sure) {
		l.noAccess(cause, err)
	}
}

// answered is called with how a call has ended. It tells if it was denied, once
// for each cause.
func (l *link) answered(err error) {
	cause := l.target.denial(err)
	switch {
	case err == nil:
		l.admission.clear()
	case cause != "" && l.admission.fresh(cause, true):
		l.noAccess(cause, err)
	}
}

// told reports whether the cause of err, which a call has ended with, has been
// told already.
func (l *link) told(err error) bool {
	return l.target.denial(err) != "" || status.Code(err) == codes.Unavailable && l.connecting.stands()
}

func (l *link) noAccess(cause string, err error) {
	l.logger.Warn("no access to the control plane", "endpoint", l.target.endpoint, "cause", cause, "error", err)
}

// reread tells, once for each error, that files for TLS cannot be used.
func (l *link) reread(err error) {
	switch {
	case err == nil:
		l.files.clear()
	case l.files.fresh(err.Error(), true):
		l.logger.Warn("TLS files cannot be used, going on with what they were", "error", err)
	}
}
