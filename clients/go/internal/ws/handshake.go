package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
)

// KeySize is the number of unpredictable bytes in a handshake.
const KeySize = 16

const largestHead = 16 * 1024 // bytes of the answer, without what comes behind it

// Field is one header field of a request.
type Field struct{ Name, Value string }

// Handshake is the opening handshake of one connection.
type Handshake struct {
	accept string
	head   []byte
}

// Refusal is an answer of the server other than the one that opens a WebSocket.
type Refusal struct {
	// Status is the HTTP status; 0: what came is not HTTP, or not right.
	Status int
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// NewHandshake returns a handshake and the request that begins it.
func NewHandshake(host, target string, fields []Field, key [KeySize]byte) (*Handshake, []byte) {
	written := base64.StdEncoding.EncodeToString(key[:])
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
		target, host, written)
	for _, field := range fields {
		request = fmt.Appendf(request, "%s: %s\r\n", field.Name, field.Value)
	}
	return &Handshake{accept: acceptOf(written)}, append(request, "\r\n"...)
}

func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Receive takes bytes of the server. Once the handshake is done it returns true, and the bytes
// behind it.
func (h *Handshake) Receive(data []byte) (rest []byte, done bool, err error) {
	h.head = append(h.head, data...)
	end := bytes.Index(h.head[:min(len(h.head), largestHead)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(h.head) >= largestHead {
			return nil, false, &Refusal{Reason: "the head of the answer is too large"}
		}
		return nil, false, nil
	}
	head, rest := string(h.head[:end]), h.head[end+4:]
	h.head = nil
	return rest, true, h.check(strings.Split(head, "\r\n"))
}

var (
	statusLine = regexp.MustCompile(`^HTTP/\d\.\d ([1-9]\d\d)( [^\x00\r\n]*)?$`)
	fieldLine  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*$")
)

func (h *Handshake) check(lines []string) error {
	status := statusLine.FindStringSubmatch(lines[0])
	if status == nil {
		return &Refusal{Reason: "not a WebSocket server: its answer is not HTTP"}
	}
	if code, _ := strconv.Atoi(status[1]); code != 101 {
		return &Refusal{Status: code, Reason: fmt.Sprintf("refused with HTTP status %d", code)}
	}
	fields := textproto.MIMEHeader{}
	for _, line := range lines[1:] {
		field := fieldLine.FindStringSubmatch(line)
		if field == nil {
			return unlike("its answer has a line that is no header")
		}
		fields.Add(field[1], field[2])
	}
	switch {
	case !hasToken(fields["Connection"], "upgrade"):
		return unlike("its answer has no Connection: Upgrade")
	case !strings.EqualFold(strings.Join(fields["Upgrade"], ","), "websocket"):
		return unlike("its answer has no Upgrade: websocket")
	case strings.Join(fields["Sec-Websocket-Accept"], ",") != h.accept:
		return unlike("its Sec-WebSocket-Accept is wrong")
	}
	// To accept what was not asked for is to accept frames that we cannot read.
	for _, name := range []string{"Sec-Websocket-Extensions", "Sec-Websocket-Protocol"} {
		if len(fields[name]) > 0 {
			return unlike("it wants a " + name + " that was not asked for")
		}
	}
	return nil
}

func unlike(fault string) error {
	return &Refusal{Reason: "not a WebSocket server: " + fault}
}

func hasToken(values []string, token string) bool {
	for _, value := range values {
		for _, one := range strings.Split(value, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}
