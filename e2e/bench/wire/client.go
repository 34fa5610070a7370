package wire

import (
	"bufio"
	"errors"
	"fmt"
	"net"
)

// Client is a component's connection to its control plane.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// Register registers the component called id, of at most 60 characters, with
// the control plane at endpoint, host:port, and keeps the connection.
func Register(endpoint, id string, role int) (*Client, error) {
	if len(id) == 0 || len(id) > 60 {
		return nil, fmt.Errorf("register %q: an id has 1 to 60 characters here", id)
	}
	conn, err := net.Dial("tcp", endpoint)
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", id, err)
	}
	c := &Client{conn: conn, in: bufio.NewReader(conn)}
	if err := c.register(endpoint, id, role); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("register %s: %w", id, err)
	}
	return c, nil
}

func (c *Client) register(endpoint, id string, role int) error {
	headers := []byte{indexedPost, indexedHTTP}
	headers = literal(headers, staticPath, "", "/flowctl.ControlPlane/Register")
	headers = literal(headers, staticAuthority, "", endpoint)
	headers = literal(headers, staticContentType, "", "application/grpc")
	headers = literal(headers, 0, "te", "trailers")
	// ServiceInfo: service_id = 1, service_type = 2, component_id = 8.
	info := append([]byte{0x0a, byte(len(id))}, id...)
	info = append(info, 0x10, byte(role), 0x42, byte(len(id)))
	info = append(info, id...)

	out := appendFrame([]byte(preface), frame{kind: frameSettings})
	out = appendFrame(out, frame{kind: frameHeaders, flags: flagEndHeaders, stream: 1, payload: headers})
	out = appendFrame(out, frame{kind: frameData, flags: flagEndStream, stream: 1, payload: message(info)})
	if _, err := c.conn.Write(out); err != nil {
		return err
	}
	return c.acknowledged(id)
}

// acknowledged reads the answer: an error has headers only.
func (c *Client) acknowledged(id string) error {
	var ack []byte
	for {
		f, err := readFrame(c.in)
		if err != nil {
			return err
		}
		if err := answer(c.conn, f); err != nil {
			return err
		}
		switch {
		case f.kind == frameGoAway, f.kind == frameReset:
			return errors.New("the control plane has refused the call")
		case f.stream != 1:
			continue
		case f.kind == frameData:
			ack = append(ack, f.payload...)
		}
		if f.flags&flagEndStream != 0 && (f.kind == frameData || f.kind == frameHeaders) {
			break
		}
	}
	got, err := firstField(ack)
	if err == nil && got != id {
		err = fmt.Errorf("it was registered as %s", got)
	}
	return err
}

// Wait returns when the control plane has gone, however it went; until then it
// answers its pings.
func (c *Client) Wait() {
	defer c.conn.Close()
	for {
		f, err := readFrame(c.in)
		if err == nil {
			err = answer(c.conn, f)
		}
		if err != nil {
			return
		}
	}
}
