package core

// Wanted is what a program wants of a subscription, besides messages.
type Wanted struct {
	Start       *Start
	Info        []byte // what the client says about itself: an object
	Concurrency int
}

// Subscribe adds a subscription, now or on the next connection. awaited tells that the caller waits
// until IsSettled, or gets the subscription's error.
func (s *Session) Subscribe(sub *Subscription, wanted *Wanted, awaited bool, now Time) *Error {
	s.now = now
	key := sub.Key
	if err := checkKey(key); err != nil {
		return err
	}
	if err := s.checkWanted(sub, wanted); err != nil {
		return err
	}
	if err := s.IsOver(); err != nil {
		return err
	}
	if key.Group != "" && len(s.subs.byKey[key]) > 0 {
		return errorf(InvalidArgument, "this client is a member of the group %q already", key.Group)
	}
	w := wish{info: wanted.Info}
	if sub.Observes {
		w.observes = observes
	}
	question, err := s.topics.want(key, wanted.Start, w, wanted.Concurrency)
	if err != nil {
		return err
	}
	if question != nil {
		question.asker = sub
	}
	sub.awaited = awaited
	s.subs.add(sub)
	return nil
}

func (s *Session) checkWanted(sub *Subscription, wanted *Wanted) *Error {
	start := wanted.Start
	switch {
	case wanted.Concurrency < 0 || wanted.Concurrency > LargestNumber:
		return errorf(InvalidArgument, "concurrency is a number of messages from 1")
	case sub.Key.Group == "" && wanted.Concurrency > 1:
		return errorf(InvalidArgument, "concurrency is for a member of a group")
	case sub.Key.Group != "" && (start != nil || wanted.Info != nil || sub.Observes):
		return errorf(InvalidArgument, "a group has neither a past nor presence")
	case sub.Key.IsPattern && (wanted.Info != nil || sub.Observes):
		return errorf(InvalidArgument, "presence and info are for a topic, not for a pattern")
	case start != nil && start.Since != nil && sub.Key.IsPattern:
		return errorf(InvalidArgument, "since is for a topic, not for a pattern")
	case start != nil && (start.Last < 0 || start.Last > LargestNumber):
		return errorf(InvalidArgument, "last is a number of messages from 0")
	}
	return nil
}

// IsSettled tells whether whoever waits for a subscription need not wait any longer: the server has
// answered, or there is no connection.
func (s *Session) IsSettled(sub *Subscription) bool {
	return sub.IsOver() || !s.isReady() || s.topics.isSettled(sub.Key)
}

// StopAwaiting notes that nobody waits for a subscription any more.
func (s *Session) StopAwaiting(sub *Subscription) { sub.awaited = false }

// Unsubscribe ends a subscription. May be called twice.
func (s *Session) Unsubscribe(sub *Subscription, now Time) {
	s.now = now
	if sub.closed {
		return
	}
	key, wasOver := sub.Key, sub.Err != nil
	if key.Group != "" && !wasOver {
		s.topics.leave(key) // first, so that it gets nothing back that it returns
	}
	s.subs.end(sub)
	s.flow.relieved(sub)
	if wasOver {
		return
	}
	switch others := s.subs.byKey[key]; {
	case len(others) == 0:
		if key.Group == "" {
			s.topics.leave(key)
			s.presences.forget(key)
		}
	case sub.Observes && !anyObserves(others):
		s.unobserved(key)
	}
}

// unobserved notes that a topic that the program has goes on, and no subscription observes it any more.
func (s *Session) unobserved(key Key) {
	s.presences.forget(key)
	if found := s.topics.byKey[key]; found != nil && found.isToBeIgnored() {
		return
	}
	if s.isReady() && s.features&Presences != 0 {
		// It is not refused here, as it wants less.
		_, _ = s.topics.want(key, nil, wish{observes: ignores}, 1)
	}
}

func anyObserves(subs []*Subscription) bool {
	for _, sub := range subs {
		if sub.Observes {
			return true
		}
	}
	return false
}

// Subscriptions returns those to a topic or pattern, as a member of groups too.
func (s *Session) Subscriptions(scope string, isPattern bool) []*Subscription {
	var found []*Subscription
	for key, subs := range s.subs.byKey {
		if key.Topic == scope && key.IsPattern == isPattern {
			found = append(found, subs...)
		}
	}
	return found
}

// Direct is the subscription to direct messages; nil: the program takes none.
func (s *Session) Direct() *Subscription { return s.subs.direct }

// Notices has what the program is told besides messages.
func (s *Session) Notices() *Subscription { return s.subs.notices }

// Notify has the program told something.
func (s *Session) Notify(notice func()) {
	s.subs.put(s.subs.notices, &Message{Notice: notice})
}

// Take removes messages that wait for a subscription, and appends them to dst: up to most, and one
// that wants an ack alone.
func (s *Session) Take(dst []Message, sub *Subscription, most int) []Message {
	return s.subs.take(dst, sub, most)
}

// Settle notes what became of a message at a subscription, once.
func (s *Session) Settle(ack *Acknowledgement, outcome Outcome, now Time) {
	s.now = now
	s.subs.settle(ack, outcome)
}

// answer sends the ack of a message, unless its connection has ended.
func (s *Session) answer(ack *Acknowledgement) {
	if ack.epoch != s.epoch || s.link == nil {
		return
	}
	l := s.link
	message := writeAck(ack, s.id, l.level)
	err := l.checkSize(len(message))
	if err == nil && tooManyBrackets(message) {
		err = errorf(MessageTooLarge, "it has too many brackets")
	}
	if err != nil {
		ack.failed, ack.failure = true, "the result of the callback cannot be sent: "+err.Text
		message = writeAck(ack, s.id, l.level)
	}
	l.answer(message)
}
