package controlplane

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// refuse tells whoever operates the control plane of a caller that was turned
// away: the caller is told, but often nobody reads that.
func (s *Server) refuse(ctx context.Context, err error) error {
	if code := status.Code(err); code == codes.Unauthenticated || code == codes.PermissionDenied {
		where := "somewhere"
		if p, ok := peer.FromContext(ctx); ok {
			where = p.Addr.String()
		}
		s.turned.tell("a client at " + where + " was turned away: " + status.Convert(err).Message())
	}
	return err
}

// rarely passes on what is told, but each thing once a minute at most: clients
// that are turned away come again and again.
type rarely struct {
	tellOn func(string)

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

// A thing is told again after silence; no more than things are told in that time.
const (
	silence = time.Minute
	things  = 20
)

func newRarely(tell func(string)) *rarely {
	return &rarely{tellOn: tell, told: make(map[string]time.Time)}
}

// tell passes on a text, unless that was done of late. Texts that differ only in
// who is turned away are the same.
func (r *rarely) tell(text string) {
	_, what, _ := strings.Cut(text, "was turned away")
	if r.due(what, time.Now()) {
		r.tellOn(text)
	}
}

func (r *rarely) due(what string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for old, at := range r.told {
		if now.Sub(at) >= silence {
			delete(r.told, old)
		}
	}
	if _, told := r.told[what]; told || len(r.told) >= things {
		return false
	}
	r.told[what] = now
	return true
}

// handshaken are the credentials of connections whose handshake the door has made.
type handshaken struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (handshaken) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if encrypted, ok := conn.(*tls.Conn); ok {
		info.State = encrypted.ConnectionState()
	}
	return conn, info, nil
}

// Info implements credentials.TransportCredentials.
func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h handshaken) Clone() credentials.TransportCredentials { return h }
