package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// frame makes a frame of a server.
func frame(first byte, payload string) []byte {
	switch size := len(payload); {
	case size <= 125:
		return append([]byte{first, byte(size)}, payload...)
	case size <= 0xFFFF:
		return append([]byte{first, 126, byte(size >> 8), byte(size)}, payload...)
	default:
		head := binary.BigEndian.AppendUint64([]byte{first, 127}, uint64(size))
		return append(head, payload...)
	}
}

// collect reads bytes in pieces, and returns what was handled.
func collect(t *testing.T, r *Reader, piece int, data []byte) ([]string, *Fault) {
	t.Helper()
	var got []string
	for len(data) > 0 {
		n := min(piece, len(data))
		err := r.Read(append([]byte(nil), data[:n]...), func(opcode byte, payload []byte) bool {
			got = append(got, fmt.Sprintf("%x:%s", opcode, payload))
			return true
		})
		if err != nil {
			return got, err
		}
		data = data[n:]
	}
	return got, nil
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func TestReaderReadsMessages(t *testing.T) {
	long, longer := strings.Repeat("a", 300), strings.Repeat("b", 70_000)
	tests := map[string]struct {
		frames []byte
		want   []string
	}{
		"one":             {frame(0x81, "hello"), []string{"1:hello"}},
		"binary":          {frame(0x82, "\xff"), []string{"2:\xff"}},
		"empty":           {frame(0x81, ""), []string{"1:"}},
		"several":         {join(frame(0x81, "a"), frame(0x81, "b")), []string{"1:a", "1:b"}},
		"16 bits":         {frame(0x81, long), []string{"1:" + long}},
		"64 bits":         {frame(0x81, longer), []string{"1:" + longer}},
		"fragments":       {join(frame(0x01, "a"), frame(0x00, "b"), frame(0x80, "c")), []string{"1:abc"}},
		"control between": {join(frame(0x01, "a"), frame(0x89, "p"), frame(0x80, "b")), []string{"9:p", "1:ab"}},
		"split character": {join(frame(0x01, "\xc3"), frame(0x80, "\xa4")), []string{"1:ä"}},
		"close":           {frame(0x88, "\x03\xe8bye"), []string{"8:\x03\xe8bye"}},
		"pong":            {frame(0x8a, "x"), []string{"a:x"}},
	}
	for name, test := range tests {
		for _, piece := range []int{1, 2, 7, 1 << 20} {
			got, err := collect(t, &Reader{MaxMessage: 100_000}, piece, test.frames)
			if err != nil || strings.Join(got, "|") != strings.Join(test.want, "|") {
				t.Errorf("%s in pieces of %d: got %.50q, %v", name, piece, got, err)
			}
		}
	}
}

func TestReaderFindsFaults(t *testing.T) {
	tests := map[string]struct {
		frames []byte
		code   int
	}{
		"reserved bit":          {frame(0xc1, "a"), ProtocolError},
		"masked":                {[]byte{0x81, 0x81, 0, 0, 0, 0, 'a'}, ProtocolError},
		"unknown opcode":        {frame(0x83, "a"), ProtocolError},
		"continuing nothing":    {frame(0x80, "a"), ProtocolError},
		"message within one":    {join(frame(0x01, "a"), frame(0x81, "b")), ProtocolError},
		"long ping":             {frame(0x89, strings.Repeat("a", 126)), ProtocolError},
		"ping in parts":         {frame(0x09, "a"), ProtocolError},
		"not UTF-8":             {frame(0x81, "\xff"), NotUTF8},
		"not UTF-8, in parts":   {join(frame(0x01, "\xc3"), frame(0x80, "a")), NotUTF8},
		"too big":               {frame(0x81, strings.Repeat("a", 101)), TooBig},
		"too big, in parts":     {join(frame(0x01, strings.Repeat("a", 60)), frame(0x80, strings.Repeat("a", 41))), TooBig},
		"too big for any limit": {append([]byte{0x81, 127}, bytes.Repeat([]byte{0xff}, 8)...), TooBig},
	}
	for name, test := range tests {
		for _, piece := range []int{1, 1 << 20} {
			_, fault := collect(t, &Reader{MaxMessage: 100}, piece, test.frames)
			if fault == nil || fault.Code != test.code {
				t.Errorf("%s in pieces of %d: %v", name, piece, fault)
			}
		}
	}
}

// The announced size decides, before the content has come.
func TestReaderDoesNotWaitForWhatIsTooBig(t *testing.T) {
	_, fault := collect(t, &Reader{MaxMessage: 100}, 1, []byte{0x81, 126, 1, 0})
	if fault == nil || fault.Code != TooBig {
		t.Error(fault)
	}
}

func TestReaderStops(t *testing.T) {
	r, count := &Reader{MaxMessage: 100}, 0
	err := r.Read(join(frame(0x81, "a"), frame(0x81, "b")), func(byte, []byte) bool {
		count++
		return false
	})
	if err != nil || count != 1 {
		t.Error(err, count)
	}
}

func TestWrittenFramesAreMasked(t *testing.T) {
	for _, size := range []int{0, 1, 3, 8, 31, 32, 33, 125, 126, 70_000} {
		payload := bytes.Repeat([]byte("xyz"), size)[:size]
		written := AppendHeader(nil, Text, size, 0x04030201)
		head := len(written)
		written = append(written, payload...)
		Mask(written[head:], 0x04030201)
		if string(written[head-4:head]) != "\x01\x02\x03\x04" || written[1]&maskBit == 0 {
			t.Fatalf("no key in %x", written[:head])
		}
		for i, c := range written[head:] {
			if c^byte(i%4+1) != payload[i] {
				t.Fatalf("byte %d of %d is wrong", i, size)
			}
		}
	}
}

func TestCloseFrames(t *testing.T) {
	long := strings.Repeat("ä", 100)
	written := AppendClose(nil, 1008, long, 0)
	code, reason, err := ReadClose(written[6:])
	if code != 1008 || reason != long[:122] || err != nil {
		t.Error(code, reason, err)
	}
	if code, _, err := ReadClose(nil); code != 1005 || err != nil {
		t.Error(code, err)
	}
	for _, wrong := range []string{"\x03", "\x03\xed", "\x00\x01", "\x13\x88", "\x03\xe8\xff"} {
		if _, _, err := ReadClose([]byte(wrong)); err == nil {
			t.Errorf("%x is taken", wrong)
		}
	}
}

func newHandshake() *Handshake {
	// The key and the answer are those of RFC 6455.
	h, _ := NewHandshake("host:1", "/ws", nil, [KeySize]byte([]byte("the sample nonce")))
	return h
}

const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

func TestRequest(t *testing.T) {
	_, request := NewHandshake("host:1", "/ws?a=b", []Field{{"X-One", "two"}}, [KeySize]byte([]byte("the sample nonce")))
	want := "GET /ws?a=b HTTP/1.1\r\nHost: host:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-One: two\r\n\r\n"
	if string(request) != want {
		t.Errorf("%q", request)
	}
}

func TestHandshake(t *testing.T) {
	const opening = "HTTP/1.1 101 Switching Protocols\r\n"
	tests := map[string]struct {
		answer string
		status int
		reason string
	}{
		"right":         {opening + "upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\nrest", 0, ""},
		"refused":       {"HTTP/1.1 403 Forbidden\r\n\r\n", 403, "HTTP status 403"},
		"no HTTP":       {"SSH-2.0-x\r\n\r\n", 0, "not HTTP"},
		"no upgrade":    {opening + "Connection: Upgrade\r\n\r\n", 0, "Upgrade: websocket"},
		"no connection": {opening + "Upgrade: websocket\r\n\r\n", 0, "Connection: Upgrade"},
		"wrong accept":  {opening + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", 0, "Accept is wrong"},
		"extension": {opening + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept +
			"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 0, "not asked for"},
		"no header":  {opening + "nonsense\r\n\r\n", 0, "no header"},
		"large head": {opening + "X: " + strings.Repeat("a", 17_000), 0, "too large"},
	}
	for name, test := range tests {
		for _, piece := range []int{1, 1 << 20} {
			h := newHandshake()
			var rest []byte
			var done bool
			var err error
			for left := []byte(test.answer); len(left) > 0 && !done && err == nil; {
				n := min(piece, len(left))
				rest, done, err = h.Receive(left[:n])
				rest = append(rest, left[n:]...)
				left = left[n:]
			}
			var refusal *Refusal
			switch {
			case test.reason == "" && (err != nil || !done || string(rest) != "rest"):
				t.Errorf("%s: %q %v %v", name, rest, done, err)
			case test.reason != "" && (!errors.As(err, &refusal) || refusal.Status != test.status ||
				!strings.Contains(refusal.Reason, test.reason)):
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Whatever comes, in whatever pieces: the same is read, and nothing panics.
func FuzzReader(f *testing.F) {
	f.Add(join(frame(0x01, "a"), frame(0x89, "p"), frame(0x80, "b")), 1)
	f.Add(frame(0x81, strings.Repeat("a", 300)), 3)
	f.Add(join(frame(0x81, "x"), frame(0xc1, "a")), 2)
	f.Add(append([]byte{0x81, 127}, bytes.Repeat([]byte{0xff}, 8)...), 5)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		whole, wholeErr := collect(t, &Reader{MaxMessage: 1000}, len(data)+1, data)
		parts, partsErr := collect(t, &Reader{MaxMessage: 1000}, max(1, piece%64), data)
		if strings.Join(whole, "|") != strings.Join(parts, "|") || fmt.Sprint(wholeErr) != fmt.Sprint(partsErr) {
			t.Errorf("%q %v, in parts %q %v", whole, wholeErr, parts, partsErr)
		}
	})
}
