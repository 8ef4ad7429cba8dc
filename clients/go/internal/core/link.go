package core

import (
	"encoding/binary"
	"errors"

	"kps.internal/kps/internal/ws"
)

type linkState int

const (
	shaking linkState = iota // the opening handshake
	open
	closing // the program has closed the client, and what waits goes out
	ended
)

// Link is one connection of a client.
type Link struct {
	session   *Session
	state     linkState
	handshake *ws.Handshake
	reader    ws.Reader
	take      func(opcode byte, payload []byte) bool // handle
	keepalive keepalive
	out       outbox

	registered bool
	level      int
	maxMessage int // bytes that the server takes; 0: it has not said so
	refusal    int // the HTTP status of a refusal
	deadline   Time

	control   []byte // frames that go out before what waits
	pong      []byte // the answer to the latest ping
	goodbye   []byte // the close frame, which goes out behind everything
	saidBye   bool   // whether it was taken
	heardBye  bool   // whether the server has said it
	isReading bool
	isGone    bool // the transport
	dropped   int  // publications
}

func newLink(s *Session, token string) *Link {
	config := &s.config
	fields := config.Fields
	if token != "" {
		fields = append(fields[:len(fields):len(fields)],
			ws.Field{Name: "Authorization", Value: "Bearer " + token})
	}
	var key [ws.KeySize]byte
	for i := 0; i < len(key); i += 4 {
		binary.LittleEndian.PutUint32(key[i:], config.Random())
	}
	l := &Link{session: s, level: 1, isReading: true}
	l.handshake, l.control = ws.NewHandshake(config.Host, config.Target, fields, key)
	l.take = l.handle
	l.reader.MaxMessage = config.Limits.MaxMessage
	l.deadline = s.now + config.Limits.HandshakeTimeout
	return l
}

// Receive takes bytes of the server.
func (l *Link) Receive(data []byte, now Time) {
	l.session.now = now
	if l.state == shaking {
		rest, done, err := l.handshake.Receive(data)
		if !done && err == nil {
			return
		}
		if err != nil {
			var refusal *ws.Refusal
			errors.As(err, &refusal)
			l.refusal = refusal.Status
			l.end(1006, refusal.Reason)
			return
		}
		l.handshake = nil
		l.state, l.deadline = open, now+l.session.config.Limits.HandshakeTimeout
		l.keepalive.begin(&l.session.config.Limits, now)
		l.send(writeGreeting(l.session.id, l.session.config.Level))
		data = rest
	}
	l.keepalive.heard(now)
	if l.state == ended {
		return
	}
	if fault := l.reader.Read(data, l.take); fault != nil {
		l.fail(fault.Code, fault.Reason)
	}
}

// handle takes a message or a control frame.
func (l *Link) handle(opcode byte, payload []byte) bool {
	switch opcode {
	case ws.Ping:
		l.pong = ws.AppendControl(l.pong[:0], ws.Pong, payload, l.session.config.Random())
	case ws.Close:
		l.hangUp(payload)
	case ws.Text, ws.Binary:
		if l.state == open {
			l.session.receive(l, payload, opcode == ws.Text)
		}
	}
	return l.state != ended
}

// hangUp answers the close frame of the server.
func (l *Link) hangUp(payload []byte) {
	code, reason, fault := ws.ReadClose(payload)
	if fault != nil {
		l.fail(fault.Code, fault.Reason)
		return
	}
	l.heardBye = true
	if l.goodbye == nil && !l.saidBye {
		answer := code
		if code == 1005 {
			answer = 1000
		}
		l.goodbye = ws.AppendClose(nil, answer, "", l.session.config.Random())
	}
	l.end(code, reason)
}

// fail closes because the server is at fault.
func (l *Link) fail(code int, reason string) {
	if l.state == open || l.state == closing {
		l.goodbye = ws.AppendClose(nil, code, reason, l.session.config.Random())
	}
	l.end(code, reason)
}

// close closes for the program, behind what waits.
func (l *Link) close(timeout Time) {
	by := l.session.now + timeout
	if l.state == open {
		l.state, l.deadline = closing, by
		l.goodbye = ws.AppendClose(nil, 1000, "", l.session.config.Random())
	}
	l.deadline = min(l.deadline, by) // a second call can only shorten it
}

// end notes that the connection has ended: nothing more comes from it, but a last frame may go out.
func (l *Link) end(code int, reason string) {
	if l.state == ended {
		return
	}
	wasClosing := l.state == closing
	l.state = ended
	l.deadline = l.session.now + l.session.config.Limits.CloseTimeout
	l.session.linkEnded(l, code, reason, wasClosing)
	l.out.entries, l.out.head, l.out.buf = nil, 0, nil
}

// Lost notes that the transport is gone. May be called twice.
func (l *Link) Lost(now Time, reason string) {
	l.session.now = now
	l.isGone = true
	l.end(1006, reason)
}

// Unwritten notes that of the last output only so many bytes were written.
func (l *Link) Unwritten(written int) {
	lost := l.out.lost(written)
	l.dropped += lost
	if l.state == ended {
		l.session.Dropped += lost
	}
}

// Output appends bytes to write, up to about limit.
func (l *Link) Output(dst []byte, limit int) []byte {
	l.out.taken = l.out.taken[:0]
	dst = append(dst, l.control...)
	dst = append(dst, l.pong...)
	l.control, l.pong = l.control[:0], l.pong[:0]
	if l.state == open || l.state == closing {
		dst = l.out.take(dst, limit, l.session.config.Random)
	}
	if l.goodbye != nil && (l.state == ended || l.out.waiting() == 0) {
		dst = append(dst, l.goodbye...)
		l.goodbye, l.saidBye = nil, true
	}
	return dst
}

// HasOutput tells whether there are bytes to write, or the writer has nothing more to do.
func (l *Link) HasOutput() bool {
	return len(l.control)+len(l.pong) > 0 || l.goodbye != nil || l.state == ended ||
		l.state != shaking && l.out.waiting() > 0
}

// IsOver tells whether the transport may be closed once everything is written.
func (l *Link) IsOver() bool { return l.state == ended }

// SaidGoodbye tells whether a close frame was taken, so that the server has something to read
// before the transport closes.
func (l *Link) SaidGoodbye() bool { return l.saidBye }

// WantsPause tells whether the driver should not read, because the program is behind.
func (l *Link) WantsPause() bool {
	return l.state == open && l.session.flow.isPaused()
}

// SetReading notes whether the driver reads.
func (l *Link) SetReading(reads bool, now Time) {
	if l.isReading != reads {
		l.isReading = reads
		l.keepalive.setReading(reads, now)
	}
}

func (l *Link) nextDeadline() Time {
	switch {
	case l.state == ended:
		return never
	case l.state == open && l.registered:
		return l.keepalive.deadline()
	case l.state == open:
		return min(l.deadline, l.keepalive.deadline())
	}
	return l.deadline
}

func (l *Link) tick(now Time) {
	switch {
	case l.state == shaking && now >= l.deadline:
		l.end(1006, "the server did not answer the opening handshake in time")
	case l.state == open && !l.registered && now >= l.deadline:
		l.end(1006, "the server did not answer the first ping in time")
	case l.state == closing && now >= l.deadline:
		l.end(1006, "the server did not close in time")
	case l.state == open:
		l.out.release() // now and then, so that one burst does not take memory for ever
		switch l.keepalive.check(now) {
		case beatPing:
			l.control = ws.AppendControl(l.control, ws.Ping, nil, l.session.config.Random())
		case beatGone:
			l.end(1006, "the server gives no sign of life")
		}
	}
}

// -- messages

// send queues a message that has to go out: what bounds it is something else.
func (l *Link) send(message []byte) {
	if l.state == open {
		l.out.put(message, 0)
	}
}

// answer queues an answer. Where the server takes none of them, the connection ends.
func (l *Link) answer(message []byte) {
	if l.state == open && !l.hasRoom(len(message)) {
		l.fail(1008, "the server reads too slowly")
		return
	}
	l.send(message)
}

func (l *Link) hasRoom(size int) bool {
	limits := &l.session.config.Limits
	waiting := l.out.waiting()
	return waiting == 0 ||
		waiting < limits.QueueMessages && l.out.size()+size <= limits.QueueBytes
}

// check refuses a message on which the server would close, or that has no room.
func (l *Link) check(message []byte) *Error {
	if err := l.checkSize(len(message)); err != nil {
		return err
	}
	if tooManyBrackets(message) {
		return errorf(MessageTooLarge, "the message has more than %d opening brackets, "+
			"[ and {, also within its texts, and servers refuse that", mostBrackets)
	}
	if !l.hasRoom(len(message)) {
		return errorf(QueueFull, "the outgoing queue is full: the network is slower than the program")
	}
	return nil
}

func (l *Link) checkSize(size int) *Error {
	if l.maxMessage > 0 && size > l.maxMessage {
		return errorf(MessageTooLarge, "the message has %d bytes, and the server takes %d at most",
			size, l.maxMessage)
	}
	return nil
}

// speak switches to the level on which both ends have agreed.
func (l *Link) speak(level, maxMessage int) {
	l.level, l.maxMessage = level, maxMessage
	l.out.joins = level > 1
	l.out.largest = largestJoined
	if maxMessage > 0 {
		l.out.largest = min(l.out.largest, maxMessage)
	}
}
