//go:build linux

package hostile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// preface is how an HTTP/2 client begins: the magic words, and settings of nothing.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// HTTP/2 frame types and flags.
const (
	frameData, frameHeaders, frameReset, framePing, frameContinuation = 0, 1, 3, 6, 9
	flagEndStream, flagEndHeaders                                     = 1, 4
)

// frame is one HTTP/2 frame.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(head, uint32(len(payload))<<8)
	head[3], head[4] = kind, flags
	binary.BigEndian.PutUint32(head[5:], stream)
	return append(head, payload...)
}

// literal is a header field that no table knows.
func literal(name, value string) []byte {
	field := append([]byte{0, byte(len(name))}, name...)
	return append(append(field, byte(len(value))), value...)
}

// call is the header of a gRPC call.
func call(method string) []byte {
	block := []byte{0x83, 0x86} // POST, http
	for _, field := range [][2]string{{":path", method}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		block = append(block, literal(field[0], field[1])...)
	}
	return block
}

// dial opens a bare connection; what comes from the other side is thrown away.
func dial(endpoint string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", endpoint, time.Second)
	if err == nil {
		go func() { _, _ = io.Copy(io.Discard, conn) }()
	}
	return conn, err
}

// crowd opens many connections which say something, and holds them.
func crowd(n int, says string) attack {
	return func(ctx context.Context, endpoint string) string {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return err.Error()
		}
		var conns []net.Conn
		for range min(uint64(n), limit.Cur-100) {
			conn, err := net.DialTimeout("tcp", endpoint, time.Second)
			if err != nil {
				continue
			}
			_, _ = conn.Write([]byte(says))
			conns = append(conns, conn)
		}
		<-ctx.Done()
		return fmt.Sprint(len(conns), " connections")
	}
}

// each does something on several connections at a time, and again on a new one when
// that has ended. do returns how often it has done what it does.
func each(n int, do func(ctx context.Context, conn net.Conn) int) attack {
	return func(ctx context.Context, endpoint string) string {
		var all sync.WaitGroup
		var times, conns atomic.Int64
		for range n {
			all.Go(func() {
				for ctx.Err() == nil {
					conn, err := dial(endpoint)
					if err != nil {
						continue
					}
					stop := context.AfterFunc(ctx, func() { conn.Close() })
					times.Add(int64(do(ctx, conn)))
					conns.Add(1)
					stop()
					conn.Close()
				}
			})
		}
		all.Wait()
		return fmt.Sprintf("%d times on %d connections", times.Load(), conns.Load())
	}
}

func sayAndReset(_ context.Context, conn net.Conn) int {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_, _ = conn.Write([]byte("P"))
	return 1
}

func saySlowly(ctx context.Context, conn net.Conn) int {
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := conn.Write([]byte{preface[i%len(preface)]}); err != nil {
			return i
		}
		<-time.After(100 * time.Millisecond) // it is slow
	}
	return 1
}

func endlessRequest(ctx context.Context, conn net.Conn) int {
	return repeat(ctx, conn, []byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n"), []byte("X-More: and more\r\n"))
}

func manyRequests(ctx context.Context, conn net.Conn) int {
	return repeat(ctx, conn, nil, bytes.Repeat([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"), 10))
}

func sayNonsense(ctx context.Context, conn net.Conn) int {
	return repeat(ctx, conn, []byte(preface), bytes.Repeat([]byte{0xff, 0, 0x16, 'P', '\r', '\n', 0x80}, 1000))
}

// repeat says something first and then something else as often as it can.
func repeat(ctx context.Context, conn net.Conn, first, again []byte) (times int) {
	_, err := conn.Write(first)
	for ; err == nil && ctx.Err() == nil; times++ {
		_, err = conn.Write(again)
	}
	return times
}

// Connections of any kind harm nobody else, and nothing of them is left.
func TestBadConnections(t *testing.T) {
	s := serve(t, "--db-path", "")
	idle := s.files()
	for _, name := range []string{
		"nobody", "10,000 silent connections", "10,000 connections of HTTP/2", "connections that are reset", "slow bytes", "nonsense",
	} {
		s.under(name)
	}
	for _, name := range []string{"HTTP requests without an end", "HTTP requests"} {
		s.withAllMight(name)
	}
	s.calm(idle)
	s.process.Stop()
}
