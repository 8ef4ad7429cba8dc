package core

import "math"

// Session is one client: its connections one after the other, and all that outlives them.
type Session struct {
	config Config
	now    Time // of the latest call
	id     string
	link   *Link // the current connection, which may still be opening

	features  features // of the server of this connection, or of the latest one
	window    window
	epoch     int // number of connections that have ended: an ack of an earlier one is void
	isClosing bool
	ended     *Ended
	events    []Event

	// Dropped counts the publications that were accepted and never written.
	Dropped int
	// WantsRoom counts the callers that wait for room in the queue.
	WantsRoom int

	reconnecting reconnecting
	parser       parser
	asking       asking
	topics       topics
	subs         subscriptions
	presences    presences
	flow         flow
	offline      offline
}

// New makes a client, which asks for its first connection.
func New(config Config, now Time) *Session {
	s := &Session{config: config, now: now, id: config.ID}
	limits := &s.config.Limits
	s.reconnecting.retryAt = never
	s.asking.init(s)
	s.topics.init(s)
	s.presences = presences{session: s, known: make(map[string]*Presence)}
	s.flow = flow{
		patience: limits.MailboxPatience,
		crowded:  make(map[*Subscription]struct{}),
		asks: func() bool {
			return len(s.asking.byName) > 0 || s.topics.hasOpen() || s.WantsRoom > 0
		},
	}
	s.subs = subscriptions{
		limits:     limits,
		byKey:      make(map[Key][]*Subscription),
		answer:     s.answer,
		crowded:    func(sub *Subscription) { s.flow.note(sub, s.now) },
		relieved:   s.flow.relieved,
		overflowed: func(sub *Subscription) { s.emit(Overflowed{sub}) },
	}
	s.subs.notices = &Subscription{}
	if config.TakesDirect {
		s.subs.direct = &Subscription{}
	}
	s.emit(ConnectNeeded{})
	return s
}

func (s *Session) emit(event Event) { s.events = append(s.events, event) }

// Events returns the events since the last call.
func (s *Session) Events() []Event {
	events := s.events
	s.events = nil
	return events
}

// Deadline is when Tick is due.
func (s *Session) Deadline() Time {
	due := min(s.reconnecting.retryAt, s.asking.deadline(), s.topics.deadline(), s.flow.deadline())
	if s.link != nil {
		due = min(due, s.link.nextDeadline())
	}
	return due
}

// Tick does everything that is due.
func (s *Session) Tick(now Time) {
	s.now = now
	if s.link != nil {
		s.link.tick(now)
	}
	s.flow.tick(now)
	s.topics.tick(now)
	s.asking.tick(now)
	s.reconnecting.tick(s)
}

// chance returns a number in [0, 1).
func (s *Session) chance() float64 { return float64(s.config.Random()) / (math.MaxUint32 + 1) }

// -- what the program asks about

// ID is the registered id; before registration the one that the client will ask for.
func (s *Session) ID() string { return s.id }

// IsReady tells whether the client is registered, and not closing.
func (s *Session) IsReady() bool { return s.isReady() }

func (s *Session) isReady() bool {
	return s.link != nil && s.link.registered && !s.isClosing
}

// Level is that of the connection; 0 without one.
func (s *Session) Level() int {
	if !s.isReady() {
		return 0
	}
	return s.link.level
}

// IsOver returns why the client takes no more calls; nil: it takes them.
func (s *Session) IsOver() *Error {
	switch {
	case s.isClosing || s.ended != nil && s.ended.Error == nil:
		return errClosed
	case s.ended != nil:
		return &Error{Kind: ClientClosed, Text: "the client has ended", Cause: s.ended.Error}
	}
	return nil
}

// End returns how the client has ended; nil: it has not.
func (s *Session) End() *Ended { return s.ended }

// Waiting is the number of bytes that wait to be written.
func (s *Session) Waiting() int {
	if s.link == nil {
		return 0
	}
	return s.link.out.size()
}

func (s *Session) requireLink() *Error {
	if s.isReady() {
		return nil
	}
	if err := s.IsOver(); err != nil {
		return err
	}
	return errorf(NotConnected, "not connected to the server at the moment")
}

func (s *Session) requireFeatures(needed features) *Error {
	if err := s.requireLink(); err != nil {
		return err
	}
	if missing := s.features.missing(needed); missing != "" {
		return lacks(missing)
	}
	return nil
}
