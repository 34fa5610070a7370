// Package report is how a benchmark's components tell when they started and
// when they were ready, without a part in what is measured: one datagram each.
package report

import (
	"fmt"
	"net"
	"time"
)

// Variable names the environment variable that holds the path of the socket.
const Variable = "BENCH_REPORT"

// Report is what one component tells. The times are of the machine's clock,
// which all processes share.
type Report struct {
	ID             string
	PID            int
	Started, Ready time.Time
}

// Send sends r to the socket at path.
func Send(path string, r Report) error {
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "%s %d %d %d", r.ID, r.PID, r.Started.UnixNano(), r.Ready.UnixNano())
	return err
}

// Receive reads the next report from conn.
func Receive(conn net.Conn) (Report, error) {
	var buf [256]byte
	n, err := conn.Read(buf[:])
	if err != nil {
		return Report{}, err
	}
	var r Report
	var started, ready int64
	if _, err := fmt.Sscanf(string(buf[:n]), "%s %d %d %d", &r.ID, &r.PID, &started, &ready); err != nil {
		return Report{}, fmt.Errorf("read report %q: %w", buf[:n], err)
	}
	r.Started, r.Ready = time.Unix(0, started), time.Unix(0, ready)
	return r, nil
}
