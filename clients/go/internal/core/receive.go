package core

// receive handles a frame of the server (spec, 4 and 12).
func (s *Session) receive(l *Link, frame []byte, isText bool) {
	messages, broken := s.parser.read(frame, isText)
	if broken != "" {
		s.unreadable(broken)
		return
	}
	for i := range messages {
		m := &messages[i]
		if l.state != open || s.ended != nil {
			return // an earlier message has ended the connection
		}
		if m.action == fault {
			s.unreadable(m.err)
			continue
		}
		if s.config.ReportsFrames {
			s.emit(Frame{append([]byte(nil), m.all...)})
		}
		s.handle(l, m)
	}
}

func (s *Session) unreadable(reason string) {
	s.emit(Refused{&Error{Kind: ServerError, Code: "bad_message",
		Text: "unreadable message from the server: " + reason}})
}

func (s *Session) handle(l *Link, m *incoming) {
	if !l.registered {
		switch {
		case m.action == "pong":
			s.registered(l, m)
		case m.action == "error" || m.action == "" && m.err != "":
			s.refusedToRegister(l, readError(m))
		}
		return
	}
	switch m.action {
	case "publish":
		s.published(l, m)
	case "publish_ack":
		s.asked(l, m)
	case "direct_message":
		s.deliverDirect(m.from, payload(m.data), m.headers, nil)
	case "subscribed", "unsubscribed":
		s.confirmed(m)
	case "published":
		s.receiptReceived(m)
	case "ack_update":
		s.asking.updated(m, false)
	case "ack_response":
		s.asking.updated(m, true)
	case "ack_status":
		for _, err := range s.topics.probeAnswered(m.ackID) {
			s.topicRefused(err)
		}
		s.asking.statusReceived(m)
	case "pong":
		s.asking.passed(m.nonce, -1)
	case "presence":
		s.presences.received(m)
	case "history":
		s.pastReceived(m)
	case "error":
		s.errorReceived(m)
	case "":
		// Early servers of the original leave the action out of errors (spec, 10.2).
		if l.level == 1 && m.err != "" {
			s.errorReceived(m)
		}
	}
}

func (s *Session) receiptReceived(m *incoming) {
	if s.topics.positions != nil {
		s.topics.positions.confirmed++
	}
	if m.receipt == "" {
		return
	}
	delivered, ok := numberOf(m.delivered)
	if !ok {
		delivered = -1
	}
	s.asking.passed(m.receipt, delivered)
}

// -- messages for the program

// published delivers publications.
func (s *Session) published(l *Link, m *incoming) {
	message := Message{Topic: m.topic, From: m.from, Attempt: 1}
	var payloads [][]byte
	if l.level == 1 {
		message.Data, message.From = unwrap(m)
		payloads = append(payloads, message.Data)
	} else if payloads = s.parser.payloadsOf(m); m.group != "" {
		s.deliverToMember(m, payloads)
		return
	}
	subs := s.subs.receivers(m.topic)
	if len(subs) == 0 || len(payloads) == 0 {
		return
	}
	if l.level > 1 {
		if epoch, offset := placeOf(m); offset > 0 {
			if s.topics.awaitsPast(m.topic) {
				return
			}
			var missing int64
			var repeated int
			message.Epoch, missing, repeated =
				s.topics.standings.passed(m.topic, epoch, offset, len(payloads))
			if missing != 0 {
				s.emit(Lost{m.topic, missing})
			}
			payloads = payloads[repeated:]
			message.Offset = offset + int64(repeated)
		}
		message.Headers = headersOf(m.headers)
	}
	var memory slab
	size := 0
	for _, data := range payloads {
		size += len(data)
	}
	for _, data := range payloads {
		message.Data = memory.copy(data, size)
		size -= len(data)
		for _, sub := range subs {
			s.subs.put(sub, &message)
		}
		if message.Offset > 0 {
			message.Offset++
		}
	}
}

// asked delivers a message whose publisher wants an ack.
func (s *Session) asked(l *Link, m *incoming) {
	message := Message{Topic: m.topic, From: m.from, Data: payload(m.data), Attempt: 1}
	mayBeDirect := m.topic == ""
	if l.level == 1 {
		message.Data, message.From = unwrap(m)
		mayBeDirect = isDirect(m.topic, s.id)
	} else if m.group != "" && !mayBeDirect {
		s.deliverToMember(m, [][]byte{message.Data})
		return
	}
	subs := s.subs.receivers(m.topic)
	if mayBeDirect && len(subs) == 0 {
		s.deliverDirect(message.From, message.Data, m.headers, s.newAck(m.ackID, 1))
		return
	}
	if len(subs) == 0 {
		s.decline(m.ackID, false)
		return
	}
	if l.level > 1 {
		if epoch, offset := placeOf(m); offset > 0 && !s.topics.awaitsPast(m.topic) {
			var missing int64
			message.Epoch, missing, _ = s.topics.standings.passed(m.topic, epoch, offset, 1)
			if message.Offset = offset; missing != 0 {
				s.emit(Lost{m.topic, missing})
			}
		}
		message.Headers = headersOf(m.headers)
	}
	message.Data = append([]byte(nil), message.Data...)
	ack := s.newAck(m.ackID, len(subs))
	for _, sub := range subs {
		message.Ack = ack
		s.subs.put(sub, &message)
	}
}

// isDirect tells whether the topic of an ack request on level 1 means this client (spec, 6.2).
func isDirect(topic, id string) bool {
	const prefix = "__direct_"
	return len(topic) >= len(prefix)+len(id) && topic[:len(prefix)] == prefix &&
		topic[len(prefix):len(prefix)+len(id)] == id
}

func (s *Session) newAck(ackID string, subs int) *Acknowledgement {
	if ackID == "" {
		return nil
	}
	return &Acknowledgement{ackID: ackID, epoch: s.epoch, remaining: subs}
}

// decline answers a message that nobody takes.
func (s *Session) decline(ackID string, forMember bool) {
	if ack := s.newAck(ackID, 0); ack != nil {
		ack.failed, ack.failure, ack.notBegun = true, noSubscriber, forMember
		s.answer(ack)
	}
}

func (s *Session) deliverDirect(from string, data, headers []byte, ack *Acknowledgement) {
	if s.subs.direct == nil {
		if ack != nil {
			s.decline(ack.ackID, false)
		}
		return
	}
	s.subs.put(s.subs.direct, &Message{From: from, Data: append([]byte(nil), data...),
		Headers: headersOf(headers), Attempt: 1, Ack: ack})
}

// deliverToMember delivers messages to the member of a group.
func (s *Session) deliverToMember(m *incoming, payloads [][]byte) {
	subs := s.subs.byKey[m.key()]
	if len(subs) == 0 {
		s.decline(m.ackID, true)
		return
	}
	message := Message{Topic: m.topic, From: m.from, Headers: headersOf(m.headers), Attempt: 1}
	if attempt, ok := numberOf(m.attempt); ok && attempt > 1 {
		message.Attempt = int(attempt)
	}
	for _, data := range payloads {
		message.Data = append([]byte(nil), data...)
		if message.Ack = s.newAck(m.ackID, 1); message.Ack != nil {
			message.Ack.forMember = true
		}
		s.subs.put(subs[0], &message)
	}
}

// -- answers about topics

func (s *Session) confirmed(m *incoming) {
	key, joins, isUnwanted := m.key(), m.action == "subscribed", false
	if joins {
		if s.link.level > 1 {
			s.topics.stand(key, readStanding(m))
		}
		if key.isTopic() && len(m.presence) > 0 && m.presence[0] == '{' {
			isUnwanted = !s.presences.confirmed(key.Topic, m.presence)
		}
	}
	switch s.topics.confirmed(key, joins) {
	case verdictSettled, verdictExtra:
		s.wake(key)
	}
	if isUnwanted && len(s.subs.byKey[key]) > 0 {
		s.unobserved(key) // whoever asked for it has ended meanwhile
	}
}

// wake wakes the callers that wait for the confirmation of a subscription.
func (s *Session) wake(key Key) {
	for _, sub := range s.subs.byKey[key] {
		if sub.awaited {
			sub.changed()
		}
	}
}

func readError(m *incoming) *Error {
	return &Error{Kind: ServerError, Text: shortened(m.err), Code: m.code, Request: m.request,
		Topic: m.topic, Pattern: m.pattern, Group: m.group, To: m.to}
}

func (s *Session) errorReceived(m *incoming) {
	isOne := true
	for value := range elements(m.refused) {
		// The server refused a whole frame, and names each message in it.
		isOne = false
		var p parser
		if read, _ := p.read(value, true); len(read) == 1 && value[0] == '{' {
			one := &read[0]
			one.err, one.code = m.err, m.code
			s.oneError(one)
		}
	}
	if isOne {
		s.oneError(m)
	}
}

func (s *Session) oneError(m *incoming) {
	err := readError(m)
	switch {
	case err.Request == "subscribe" || err.Request == "unsubscribe":
		s.topicRefused(err)
		return
	case err.Request == "":
		if named := s.topics.refusedByPosition(err.Text); named != nil {
			s.topicRefused(named)
			return
		}
	}
	if !s.asking.refused(m, err) {
		s.emit(Refused{err})
	}
}

func (s *Session) topicRefused(err *Error) {
	key := Key{Topic: err.Topic, Group: err.Group}
	if err.Pattern != "" {
		key.Topic, key.IsPattern = err.Pattern, true
	}
	v, wasReported, question := s.topics.refused(key, err)
	switch {
	case v == verdictFinal:
		if s.refuse(key, err, nil) {
			return // the callers are waiting, and get the error
		}
	case question != nil && question.asker == nil:
		s.wake(key)
	case question != nil:
		s.wake(key)
		if s.refuse(key, err, question.asker) {
			return
		}
	case v == verdictSettled:
		s.wake(key)
	}
	if !wasReported {
		s.emit(Refused{err})
	}
}

// refuse ends subscriptions with an error. It tells whether callers wait for all of them.
func (s *Session) refuse(key Key, err *Error, only *Subscription) bool {
	areAwaited := true
	ended := s.subs.refuse(key, err, only)
	for _, sub := range ended {
		areAwaited = areAwaited && sub.awaited
	}
	switch others := s.subs.byKey[key]; {
	case len(others) == 0:
		s.presences.forget(key)
		if only != nil {
			s.topics.leave(key)
		}
	case s.presences.knows(key) && !anyObserves(others):
		s.unobserved(key)
	}
	return areAwaited && len(ended) > 0
}
