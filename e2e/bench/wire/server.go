package wire

import (
	"bufio"
	"fmt"
	"io"
	"net"
)

// ServeConn answers the Register calls of one connection until it ends, and
// closes it. registered is called with the id of each service before the answer
// is sent. Whatever else is called gets the same answer.
func ServeConn(conn net.Conn, registered func(id string)) error {
	defer conn.Close()
	in := bufio.NewReader(conn)
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(in, hello); err != nil || string(hello) != preface {
		return fmt.Errorf("serve %s: it does not speak HTTP/2: %w", conn.RemoteAddr(), err)
	}
	if _, err := conn.Write(appendFrame(nil, frame{kind: frameSettings})); err != nil {
		return err
	}
	var request []byte
	for {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		if err := answer(conn, f); err != nil {
			return err
		}
		if f.kind != frameData {
			continue
		}
		request = append(request, f.payload...)
		if f.flags&flagEndStream == 0 {
			continue
		}
		id, err := firstField(request)
		if err != nil {
			return err
		}
		request = request[:0]
		registered(id)
		if err := acknowledge(conn, f.stream, id); err != nil {
			return err
		}
	}
}

// acknowledge sends a RegistrationAck with status OK.
func acknowledge(w io.Writer, stream uint32, id string) error {
	headers := literal([]byte{indexed200}, staticContentType, "", "application/grpc")
	ack := append([]byte{0x0a, byte(len(id))}, id...)
	out := appendFrame(nil, frame{kind: frameHeaders, flags: flagEndHeaders, stream: stream, payload: headers})
	out = appendFrame(out, frame{kind: frameData, stream: stream, payload: message(ack)})
	out = appendFrame(out, frame{
		kind: frameHeaders, flags: flagEndHeaders | flagEndStream, stream: stream,
		payload: literal(nil, 0, "grpc-status", "0"),
	})
	_, err := w.Write(out)
	return err
}
