package core

// Publish publishes on a topic. The payload is JSON, and is copied.
func (s *Session) Publish(topic string, payload []byte) *Error {
	l := s.link
	if !s.isReady() || l.level == 1 {
		return s.Send(&Publication{Target: topic, Data: payload})
	}
	if last := len(l.out.entries) - 1; last < l.out.head || l.out.entries[last].topic != topic {
		if err := checkTopic(topic); err != nil {
			return err
		}
	}
	const around = len(`{"action":"publish","topic":,"data":}`)
	size := around + quotedSize(topic) + len(payload)
	if err := l.checkSize(size); err != nil {
		return err
	}
	if size > largestJoined {
		return s.Send(&Publication{Target: topic, Data: payload})
	}
	if !l.hasRoom(size) {
		return errorf(QueueFull, "the outgoing queue is full: the network is slower than the program")
	}
	l.out.publish(topic, payload)
	return nil
}

// quotedSize is the size of a text as JSON, or more where it has to be escaped.
func quotedSize(text string) int {
	size := len(text) + 2
	for i := 0; i < len(text); i++ {
		if text[i] == '"' || text[i] == '\\' {
			size++
		}
	}
	return size
}

// Send sends a publication, or keeps it for the next connection.
func (s *Session) Send(p *Publication) *Error {
	var err *Error
	switch p.Kind {
	case ToTopic:
		err = checkTopic(p.Target)
	case ToID:
		err = checkID(p.Target)
	case ToServer:
		err = checkName("an address", p.Target, longestAddress)
	}
	if err != nil {
		return err
	}
	if !s.isReady() {
		return s.keep(p)
	}
	if len(p.Headers) > 0 {
		// What is kept goes with its headers, whatever the next server knows.
		if err := s.requireFeatures(Headers); err != nil {
			return err
		}
	}
	message := p.write(s.id, s.link.level)
	if err := s.link.check(message); err != nil {
		return err
	}
	s.link.out.put(message, 1)
	return nil
}

func (s *Session) keep(p *Publication) *Error {
	if s.IsOver() != nil || s.config.Offline == 0 {
		return s.requireLink()
	}
	kept := *p
	kept.Data = append([]byte(nil), p.Data...)
	kept.Headers = append([]byte(nil), p.Headers...)
	if !s.offline.put(kept, &s.config) {
		return errorf(QueueFull, "not connected, and the offline queue is full")
	}
	return nil
}

// offline are the publications that the program has made without a connection.
type offline struct {
	kept []Publication
	size int
}

func (o *offline) put(p Publication, config *Config) bool {
	size := len(p.Target) + len(p.Data) + len(p.Headers) + costOfKept
	if len(o.kept) >= config.Offline || o.size+size > config.Limits.OfflineBytes {
		return false
	}
	o.kept = append(o.kept, p)
	o.size += size
	return true
}

func (o *offline) takeAll() []Publication {
	kept := o.kept
	o.kept, o.size = nil, 0
	return kept
}

// sendKept sends on a new connection what was kept. What is too large for this server is dropped
// and reported.
func (s *Session) sendKept() {
	for _, p := range s.offline.takeAll() {
		message := p.write(s.id, s.link.level)
		err := s.link.checkSize(len(message))
		if err == nil && tooManyBrackets(message) {
			err = errorf(MessageTooLarge, "it has too many brackets")
		}
		if err != nil {
			s.Dropped++
			err.Text = "a publication that was kept is dropped: " + err.Text
			s.emit(Refused{err})
			continue
		}
		s.link.out.put(message, 1)
	}
}

// keepUnsent keeps publications that a connection has not sent. It returns how many are lost.
func (s *Session) keepUnsent(l *Link) (lost int) {
	messages, count := l.out.unsent()
	if s.config.Offline == 0 || s.IsOver() != nil {
		return count
	}
	for _, message := range messages {
		for _, p := range readPublications(message) {
			if !s.offline.put(p, &s.config) {
				lost++
			}
		}
	}
	return lost
}

// readPublications reads a message of our own.
func readPublications(message []byte) []Publication {
	var p parser
	read, _ := p.read(message, true)
	m := &read[0]
	one := Publication{Target: m.topic, Headers: append([]byte(nil), m.headers...)}
	switch m.action {
	case "direct_message":
		one.Kind, one.Target = ToID, m.to
	case "publish_to_server":
		one.Kind, one.Target = ToServer, m.to
		for _, value := range members(m.status) {
			one.Secure = isTrue(value)
		}
	}
	var all []Publication
	for _, data := range p.payloadsOf(m) {
		one.Data = append([]byte(nil), data...)
		all = append(all, one)
	}
	return all
}
