// Package wire speaks the one gRPC call the benchmarks need, Register of
// flowctl.ControlPlane, in plain HTTP/2 frames. A gRPC library would cost every
// component more time than what is measured. It is no general HTTP/2: one call
// for each connection, no padding, no compression, small messages.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The frame types and flags of HTTP/2 that are used here.
const (
	frameData     = 0x0
	frameHeaders  = 0x1
	frameReset    = 0x3
	frameSettings = 0x4
	framePing     = 0x6
	frameGoAway   = 0x7

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
)

// preface is what a client says first.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxFrame is the longest payload a peer may send unless it is told otherwise.
const maxFrame = 16 << 10

// frame is one HTTP/2 frame.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// appendFrame appends f as it goes over the wire.
func appendFrame(b []byte, f frame) []byte {
	n := len(f.payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), f.kind, f.flags)
	b = binary.BigEndian.AppendUint32(b, f.stream)
	return append(b, f.payload...)
}

// readFrame reads the next frame.
func readFrame(r io.Reader) (frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if n > maxFrame {
		return frame{}, fmt.Errorf("read frame: %d bytes are more than the %d allowed", n, maxFrame)
	}
	f := frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) &^ (1 << 31), payload: make([]byte, n)}
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// answer acknowledges a frame that wants it.
func answer(w io.Writer, f frame) error {
	if f.kind != frameSettings && f.kind != framePing || f.flags&flagAck != 0 {
		return nil
	}
	ack := frame{kind: f.kind, flags: flagAck}
	if f.kind == framePing {
		ack.payload = f.payload
	}
	_, err := w.Write(appendFrame(nil, ack))
	return err
}

// literal appends a header field that is not to be indexed; name is an index of
// HPACK's static table, or 0 for a new name.
func literal(b []byte, index int, name, value string) []byte {
	if index < 15 {
		b = append(b, byte(index))
	} else {
		b = append(b, 15, byte(index-15))
	}
	if index == 0 {
		b = append(append(b, byte(len(name))), name...)
	}
	return append(append(b, byte(len(value))), value...)
}

// HPACK's static table, as far as it is needed.
const (
	staticAuthority   = 1
	staticPath        = 4
	staticContentType = 31

	indexedPost = 0x83
	indexedHTTP = 0x86
	indexed200  = 0x88
)

// message wraps an encoded protobuf message as gRPC sends it, uncompressed.
func message(encoded []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(encoded)))
	return append(b, encoded...)
}

// firstField returns the protobuf string field 1 at the beginning of a gRPC
// message: the service id of both the request and the answer.
func firstField(data []byte) (string, error) {
	const head = 5 + 2
	if len(data) < head || data[5] != 0x0a || data[6] >= 0x80 || len(data) < head+int(data[6]) {
		return "", fmt.Errorf("message %q does not begin with a service id", data)
	}
	return string(data[head : head+int(data[6])]), nil
}
