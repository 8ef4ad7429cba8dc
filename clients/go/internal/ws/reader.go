package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Fault is something that the server did against RFC 6455, or beyond our limits. The connection
// closes with its code.
type Fault struct {
	Code   int
	Reason string
}

// Close codes of faults.
const (
	ProtocolError = 1002
	NotUTF8       = 1007
	TooBig        = 1009
)

// Reader reads the frames of a server.
type Reader struct {
	// MaxMessage is the size of the largest message, counted over all its frames.
	MaxMessage int

	pending    []byte // a frame that has come in part
	need       int    // bytes of it before it is worth looking again
	message    []byte // what has come of a message in several frames
	opcode     byte   // of that message, 0: there is none
	hasMessage bool
}

// Read takes bytes of the server. It calls handle for each message and each control frame that
// is complete: with Text, Binary, Close, Ping or Pong. The payload is only valid during the call.
// Read stops at the first fault, or when handle returns false.
func (r *Reader) Read(data []byte, handle func(opcode byte, payload []byte) bool) *Fault {
	own := len(r.pending) > 0
	if own {
		r.pending = append(r.pending, data...)
		if len(r.pending) < r.need {
			return nil
		}
		data = r.pending
	}
	for {
		size, fault := r.frame(data, handle)
		if fault != nil {
			return fault
		}
		if size <= 0 { // stopped, or not complete
			if size == 0 {
				r.keep(data, own)
			}
			return nil
		}
		data = data[size:]
	}
}

// keep remembers the beginning of a frame.
func (r *Reader) keep(data []byte, own bool) {
	if own {
		data = r.pending[:copy(r.pending, data)]
	} else {
		data = append(r.pending[:0], data...)
	}
	r.pending = data
	if len(data) == 0 && cap(data) > 64*1024 {
		r.pending = nil // a large message has passed
	}
}

// frame reads the frame at the beginning of data. It returns its size; 0: the frame is not
// complete; -1: handle wants no more.
func (r *Reader) frame(data []byte, handle func(byte, []byte) bool) (int, *Fault) {
	r.need = 0
	if len(data) < 2 {
		return 0, nil
	}
	final, opcode := data[0]&finBit != 0, data[0]&0x0F
	if data[0]&0x70 != 0 {
		return 0, &Fault{ProtocolError, "a reserved bit is set"}
	}
	if data[1]&maskBit != 0 {
		return 0, &Fault{ProtocolError, "a frame of the server is masked"}
	}
	size, header := uint64(data[1]&0x7F), 2
	switch size {
	case 126:
		header = 4
		if len(data) < header {
			return 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(data[2:]))
	case 127:
		header = 10
		if len(data) < header {
			return 0, nil
		}
		size = binary.BigEndian.Uint64(data[2:])
	}
	if fault := r.check(opcode, final, size); fault != nil {
		return 0, fault
	}
	end := header + int(size)
	if len(data) < end {
		r.need = end
		return 0, nil
	}
	return r.take(opcode, final, data[header:end], end, handle)
}

// check looks at the header of a frame, before its payload has come.
func (r *Reader) check(opcode byte, final bool, size uint64) *Fault {
	switch opcode {
	case Close, Ping, Pong:
		if !final || size > longestControl {
			return &Fault{ProtocolError, "a control frame is too long, or not whole"}
		}
		return nil
	case Text, Binary:
		if r.hasMessage {
			return &Fault{ProtocolError, "a message begins within another one"}
		}
	case Continuation:
		if !r.hasMessage {
			return &Fault{ProtocolError, "a frame continues nothing"}
		}
	default:
		return &Fault{ProtocolError, fmt.Sprintf("unknown opcode %d", opcode)}
	}
	if size > uint64(r.MaxMessage-len(r.message)) {
		return &Fault{TooBig, "message too big"}
	}
	return nil
}

func (r *Reader) take(
	opcode byte, final bool, payload []byte, end int, handle func(byte, []byte) bool,
) (int, *Fault) {
	switch {
	case opcode >= Close:
	case final && opcode != Continuation: // the usual case: a message in one frame
	case !final && opcode != Continuation:
		r.hasMessage, r.opcode = true, opcode
		r.message = append(r.message[:0], payload...)
		return end, nil
	default:
		r.message = append(r.message, payload...)
		if !final {
			return end, nil
		}
		opcode, payload = r.opcode, r.message
		r.hasMessage, r.message = false, nil
	}
	if opcode == Text && !utf8.Valid(payload) {
		return 0, &Fault{NotUTF8, "a text is not UTF-8"}
	}
	if !handle(opcode, payload) {
		return -1, nil
	}
	return end, nil
}

// ReadClose reads the payload of a close frame; the code is 1005 if it tells none.
func ReadClose(payload []byte) (code int, reason string, fault *Fault) {
	if len(payload) == 0 {
		return 1005, "", nil
	}
	if len(payload) == 1 {
		return 0, "", &Fault{ProtocolError, "a close frame has half a code"}
	}
	code, reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	if code < 1000 || code >= 5000 || code == 1004 || code == 1005 || code == 1006 || code == 1015 {
		return 0, "", &Fault{ProtocolError, "a close frame has a code that is never sent"}
	}
	if !utf8.ValidString(reason) {
		return 0, "", &Fault{NotUTF8, "the reason of a close frame is not UTF-8"}
	}
	return code, reason, nil
}
