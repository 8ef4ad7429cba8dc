// Package testbus has the server's side of the protocol for tests: connections that a test plays
// itself, and a small bus, which does what programs need to be tried out.
package testbus

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"kps.internal/kps/internal/ws"
)

// Conn is the server's end of a WebSocket.
type Conn struct {
	net.Conn
	// Request is the opening request of the client.
	Request *http.Request

	reader *bufio.Reader
	// turn is held while a frame is written. Who waits for it does not stop the time in a bubble of
	// testing/synctest, as who waits for a sync.Mutex does.
	turn chan struct{}
}

// Closed is the error of a connection that the client has closed.
type Closed struct{ Code int }

func (c *Closed) Error() string { return fmt.Sprintf("the client has closed with %d", c.Code) }

// Accept does the opening handshake; a status other than 101 refuses it.
func Accept(conn net.Conn, status int) (*Conn, error) {
	c := &Conn{Conn: conn, reader: bufio.NewReader(conn), turn: make(chan struct{}, 1)}
	var err error
	if c.Request, err = http.ReadRequest(c.reader); err != nil {
		return nil, err
	}
	if status != http.StatusSwitchingProtocols {
		fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n\r\n", status, http.StatusText(status))
		return nil, conn.Close()
	}
	sum := sha1.Sum([]byte(c.Request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return c, err
}

// Read returns the next message of the client. It answers pings, and the close frame, which is a
// *[Closed].
func (c *Conn) Read() ([]byte, error) {
	for {
		opcode, payload, err := c.frame()
		if err != nil {
			return nil, err
		}
		switch opcode {
		case ws.Text:
			return payload, nil
		case ws.Ping:
			err = c.write(ws.Pong, payload)
		case ws.Close:
			code, _, _ := ws.ReadClose(payload)
			_ = c.write(ws.Close, payload)
			return nil, &Closed{code}
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *Conn) frame() (opcode byte, payload []byte, err error) {
	head := make([]byte, 14)
	if _, err = io.ReadFull(c.reader, head[:2]); err != nil {
		return 0, nil, err
	}
	size, more := int(head[1]&0x7F), 4
	switch size {
	case 126:
		more += 2
	case 127:
		more += 8
	}
	if _, err = io.ReadFull(c.reader, head[2:2+more]); err != nil {
		return 0, nil, err
	}
	switch size {
	case 126:
		size = int(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size = int(binary.BigEndian.Uint64(head[2:]))
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.reader, payload)
	ws.Mask(payload, binary.LittleEndian.Uint32(head[more-2:]))
	return head[0] & 0x0F, payload, err
}

// Write sends a text message.
func (c *Conn) Write(text []byte) error { return c.write(ws.Text, text) }

// Say sends values, each as a message.
func (c *Conn) Say(values ...any) error {
	for _, value := range values {
		var written bytes.Buffer
		if text, ok := value.(string); ok {
			written.WriteString(text)
		} else {
			encoder := json.NewEncoder(&written)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(value); err != nil {
				return err
			}
		}
		if err := c.Write(written.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// WriteClose sends a close frame.
func (c *Conn) WriteClose(code int) error {
	return c.write(ws.Close, binary.BigEndian.AppendUint16(nil, uint16(code)))
}

func (c *Conn) write(opcode byte, payload []byte) error {
	frame := AppendFrame(nil, opcode, payload)
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	_, err := c.Conn.Write(frame)
	return err
}

// AppendFrame appends a frame of a server.
func AppendFrame(dst []byte, opcode byte, payload []byte) []byte {
	dst = append(dst, 0x80|opcode)
	switch size := len(payload); {
	case size <= 125:
		dst = append(dst, byte(size))
	case size <= 0xFFFF:
		dst = append(dst, 126, byte(size>>8), byte(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
	}
	return append(dst, payload...)
}
