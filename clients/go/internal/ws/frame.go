// Package ws is the client's side of a WebSocket (RFC 6455) without any I/O: it makes and reads
// bytes, and somebody else moves them.
package ws

import "encoding/binary"

// Opcodes of frames.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xA
)

const (
	finBit  = 0x80
	maskBit = 0x80

	longestHeader  = 14 // bytes
	longestControl = 125
)

// AppendHeader appends the header of a masked frame that holds a whole message of size bytes.
func AppendHeader(dst []byte, opcode byte, size int, key uint32) []byte {
	switch {
	case size <= longestControl:
		dst = append(dst, finBit|opcode, maskBit|byte(size))
	case size <= 0xFFFF:
		dst = append(dst, finBit|opcode, maskBit|126, byte(size>>8), byte(size))
	default:
		dst = append(dst, finBit|opcode, maskBit|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(size))
	}
	return binary.LittleEndian.AppendUint32(dst, key)
}

// AppendControl appends a control frame. A payload that is too long is cut off.
func AppendControl(dst []byte, opcode byte, payload []byte, key uint32) []byte {
	payload = payload[:min(len(payload), longestControl)]
	dst = AppendHeader(dst, opcode, len(payload), key)
	dst = append(dst, payload...)
	Mask(dst[len(dst)-len(payload):], key)
	return dst
}

// AppendClose appends a close frame.
func AppendClose(dst []byte, code int, reason string, key uint32) []byte {
	payload := binary.BigEndian.AppendUint16(make([]byte, 0, longestControl), uint16(code))
	payload = append(payload, cut(reason, longestControl-2)...)
	return AppendControl(dst, Close, payload, key)
}

// cut returns a text without what is beyond so many bytes; it cuts no character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xC0 == 0x80 {
		most--
	}
	return text[:most]
}

// Mask masks a payload in place, or unmasks it.
func Mask(b []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(wide >> (8 * i))
	}
}
