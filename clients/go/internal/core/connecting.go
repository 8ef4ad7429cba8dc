package core

import "fmt"

// Close codes after which a client does not come back: another connection has taken its id, which
// it must not take back in turn, or the deployment does not want it (spec, 8.6).
const (
	idTaken   = 4001
	dismissed = 4003
)

const tooBig = 1009

// forgiven is how many connections in a row may soon end before the waits begin to grow. A server
// may be restarted twice; but it may also accept each client and end it at once, and must not be
// hammered then.
const forgiven = 3

// reconnecting plans attempts to connect.
type reconnecting struct {
	attempt      int // failed attempts, and before them connections that soon ended
	shortLived   int // connections in a row that soon ended
	registeredAt Time
	wasConnected bool
	retryAt      Time
}

func (r *reconnecting) tick(s *Session) {
	if s.now >= r.retryAt {
		r.retryAt = never
		s.emit(ConnectNeeded{})
	}
}

func (r *reconnecting) plan(s *Session) Time {
	delay := s.config.Reconnect.delay(r.attempt, s.chance())
	r.attempt++
	r.retryAt = s.now + delay
	return delay
}

// Connected returns the link for a new transport, in answer to ConnectNeeded.
func (s *Session) Connected(token string, now Time) *Link {
	s.now = now
	l := newLink(s, token)
	if s.IsOver() != nil {
		l.state = ended
	} else {
		s.link = l
	}
	return l
}

// ConnectFailed notes that the driver could not open a transport, in answer to ConnectNeeded.
func (s *Session) ConnectFailed(reason string, now Time) {
	s.now = now
	s.attemptFailed(reason, 0)
}

func (s *Session) attemptFailed(reason string, status int) {
	switch {
	case s.IsOver() != nil:
		s.end(nil)
	case s.config.Reconnect == nil || s.isRefusedForGood(status):
		s.end(&Error{Kind: ConnectFailed, Status: status,
			Text: fmt.Sprintf("cannot connect to %s: %s", s.config.Host, reason)})
	default:
		s.emit(AttemptFailed{reason, s.reconnecting.plan(s)})
	}
}

func (s *Session) isRefusedForGood(status int) bool {
	if status == 401 || status == 403 {
		return !s.config.TokenMayChange
	}
	if status == 408 || status == 429 { // it blames the moment
		return false
	}
	// While a server restarts, a proxy in front of it may answer with any status.
	return 400 <= status && status < 500 && !s.reconnecting.wasConnected
}

// Close closes for good, behind what waits, within a time. May be called again.
func (s *Session) Close(timeout, now Time) {
	s.now = now
	if s.ended != nil {
		return
	}
	if !s.isClosing {
		s.isClosing = true
		s.reconnecting.retryAt = never
		s.asking.endAll(errClosed)
		s.topics.disconnected()
		s.wakeAll()
	}
	switch l := s.link; {
	case l == nil:
		s.end(nil)
	case l.registered:
		l.close(timeout)
	default:
		l.end(1006, "the client was closed")
	}
}

// registered notes that the server has answered the first ping.
func (s *Session) registered(l *Link, pong *incoming) {
	l.registered = true
	level, maxMessage := 1, int64(0)
	if s.config.Level > 1 && string(pong.proto) == "2" {
		level = 2
	}
	for name, value := range members(pong.limits) {
		if string(name) == `"max_message"` {
			maxMessage, _ = numberOf(value)
		}
	}
	l.speak(level, int(maxMessage))
	s.features, s.window = 0, window{}
	if level > 1 {
		s.features, s.window = featuresIn(pong.features), windowIn(pong.messageIDs, s.now)
	}
	if pong.id != "" {
		s.id = pong.id
	}
	r := &s.reconnecting
	s.emit(Connected{s.id, r.wasConnected})
	r.wasConnected, r.registeredAt = true, s.now
	r.attempt = max(0, r.shortLived-forgiven)
	for _, key := range s.topics.connected() {
		s.endUnsupported(key)
	}
	if s.features&Presences == 0 {
		for _, key := range s.topics.keys() {
			if anyObserves(s.subs.byKey[key]) {
				s.emit(Refused{about(key, lacks("presence"))})
			}
		}
	}
	s.asking.repeats.connected()
	s.sendKept()
}

// endUnsupported ends the subscriptions to what the new server does not have.
func (s *Session) endUnsupported(key Key) {
	err := about(key, lacks(s.features.missing(key.needs())))
	s.subs.refuse(key, err, nil)
	s.emit(Refused{err})
}

// about makes an error about a subscription.
func about(key Key, err *Error) *Error {
	err.Request, err.Group = "subscribe", key.Group
	if key.IsPattern {
		err.Pattern = key.Topic
	} else {
		err.Topic = key.Topic
	}
	return err
}

// refusedToRegister closes, because the server answered the first ping with an error.
func (s *Session) refusedToRegister(l *Link, err *Error) {
	if !err.IsTemporary() { // else another attempt may help
		s.end(&Error{Kind: ServerError, Code: err.Code, Request: err.Request,
			Text: "the server refused this client: " + err.Text})
	}
	l.fail(1008, "the server refused: "+err.Text)
}

// linkEnded ends everything that belongs to a connection that has ended.
func (s *Session) linkEnded(l *Link, code int, reason string, wasClosing bool) {
	if l != s.link {
		return
	}
	s.link = nil
	s.epoch++
	if !l.registered {
		switch {
		case s.ended != nil || s.isClosing:
			s.end(nil)
		case code == tooBig && l.heardBye:
			s.end(&Error{Kind: ConnectFailed, Text: fmt.Sprintf("cannot connect to %s: the server "+
				"takes no first message as long as this client's: its id is too long", s.config.Host)})
		default:
			if reason == "" {
				reason = fmt.Sprintf("the connection ended with code %d", code)
			}
			s.attemptFailed(reason, l.refusal)
		}
		return
	}
	dropped := s.keepUnsent(l) + l.dropped
	s.Dropped += dropped
	text := reason
	if text == "" {
		text = fmt.Sprintf("code %d", code)
	}
	lost := &Error{Kind: ConnectionLost, Text: "the connection ended: " + text, Close: code}
	retries := !s.isClosing && s.config.Reconnect != nil && code != idTaken && code != dismissed
	if retries {
		s.asking.repeats.disconnected(lost)
	} else {
		s.asking.endAll(lost)
	}
	s.topics.disconnected()
	s.wakeAwaited()
	r := &s.reconnecting
	if s.config.Reconnect != nil && s.now-r.registeredAt >= s.config.Reconnect.Longest {
		r.attempt, r.shortLived = 0, 0
	}
	r.shortLived++
	event := Disconnected{Code: code, Reason: reason, Retries: retries, Dropped: dropped}
	if retries {
		event.RetryIn = r.plan(s)
	}
	if !wasClosing {
		s.emit(event)
	}
	if !retries {
		if s.isClosing {
			lost = nil
		}
		s.end(lost)
	}
}

// wakeAwaited wakes the callers that wait for the confirmation of a subscription.
func (s *Session) wakeAwaited() {
	for _, subs := range s.subs.byKey {
		for _, sub := range subs {
			if sub.awaited {
				sub.changed()
			}
		}
	}
}

// end ends the client for good; err says why, unless the program closed it.
func (s *Session) end(err *Error) {
	if s.ended != nil {
		return
	}
	s.ended = &Ended{err}
	s.reconnecting.retryAt = never
	cause := err
	if cause == nil {
		cause = errClosed
	}
	s.asking.endAll(cause)
	s.topics.disconnected()
	s.Dropped += len(s.offline.takeAll())
	s.wakeAll()
	s.emit(*s.ended)
}

// wakeAll wakes all callers that wait for subscriptions or their messages.
func (s *Session) wakeAll() {
	for _, subs := range s.subs.byKey {
		for _, sub := range subs {
			sub.changed()
		}
	}
}
