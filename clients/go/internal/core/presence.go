package core

import "bytes"

// Presence is who is subscribed to a topic, and what has changed since the last time.
type Presence struct {
	Topic string
	// Members are what each member says about itself, by id; nil: only the number is known.
	Members map[string][]byte
	Count   int64
	Version int64 // of the latest change; -1: nobody looks

	Joined, Updated map[string][]byte
	Left            map[string]string // why each has left
}

const leftUnseen = "unknown" // the reason of one that has left meanwhile

// presences are the members of the topics that the program observes.
type presences struct {
	session *Session
	known   map[string]*Presence
}

// AskPresence asks who is subscribed to a topic.
func (s *Session) AskPresence(topic string, now Time, changed func()) (*Question, *Error) {
	s.now = now
	if err := checkTopic(topic); err != nil {
		return nil, err
	}
	if err := s.requireFeatures(Presences); err != nil {
		return nil, err
	}
	q := &Question{name: s.asking.newName("presence"), kind: aboutPresence, Changed: changed}
	message := newObject("presence").text("topic", topic).text("nonce", q.name).end()
	return q, s.sendQuestion(q, nil, message, nil)
}

// received takes an answer, or what has changed on a topic.
func (p *presences) received(m *incoming) {
	if m.nonce == "" {
		if p.known[m.topic] != nil {
			p.follow(m.topic, m)
		}
		return
	}
	asking := &p.session.asking
	if q := asking.find(m.nonce, aboutPresence); q != nil {
		q.Presence = readPresence(m.topic, m)
		asking.end(q, nil)
	}
}

// confirmed takes the members at the beginning of a subscription that observes. It tells whether one still does.
func (p *presences) confirmed(topic string, object []byte) bool {
	if !anyObserves(p.session.subs.byKey[Key{Topic: topic}]) {
		return false
	}
	var m incoming
	for name, value := range members(object) {
		switch string(name) {
		case `"members"`:
			m.members = value
		case `"count"`:
			m.count = value
		case `"version"`:
			m.version = value
		}
	}
	if p.known[topic] == nil {
		p.known[topic] = &Presence{Topic: topic, Members: map[string][]byte{}}
	}
	p.follow(topic, &m)
	return true
}

// knows tells whether the server has told who is subscribed. It goes on until the client does not want it.
func (p *presences) knows(key Key) bool { return key.isTopic() && p.known[key.Topic] != nil }

func (p *presences) forget(key Key) {
	if key.isTopic() {
		delete(p.known, key.Topic)
	}
}

func (p *presences) follow(topic string, m *incoming) {
	before, now := p.known[topic], readPresence(topic, m)
	switch {
	case len(m.members) > 0:
		now.compare(before)
	case before.Members != nil && (len(m.joined) > 0 || len(m.left) > 0):
		now.change(before, m)
	}
	p.known[topic] = now
	var observers []*Subscription
	for _, sub := range p.session.subs.byKey[Key{Topic: topic}] {
		if sub.Observes {
			observers = append(observers, sub)
		}
	}
	p.session.emit(PresenceChanged{now, observers})
}

// compare tells what has changed since then.
func (p *Presence) compare(before *Presence) {
	p.Joined, p.Updated, p.Left = map[string][]byte{}, map[string][]byte{}, map[string]string{}
	for id, info := range p.Members {
		if old, ok := before.Members[id]; !ok {
			p.Joined[id] = info
		} else if !bytes.Equal(old, info) {
			p.Updated[id] = info
		}
	}
	for id := range before.Members {
		if _, ok := p.Members[id]; !ok {
			p.Left[id] = leftUnseen
		}
	}
}

// change makes the members of those before, and of some changes, which may be known already.
func (p *Presence) change(before *Presence, m *incoming) {
	p.Members = make(map[string][]byte, len(before.Members))
	p.Joined, p.Updated, p.Left = map[string][]byte{}, map[string][]byte{}, map[string]string{}
	for id, info := range before.Members {
		p.Members[id] = info
	}
	for one := range elements(m.left) {
		id, reason := "", ""
		for name, value := range members(one) {
			switch string(name) {
			case `"id"`:
				id = textOr(value)
			case `"reason"`:
				reason = textOr(value)
			}
		}
		if _, ok := p.Members[id]; ok {
			if reason == "" {
				reason = leftUnseen
			}
			delete(p.Members, id)
			p.Left[id] = reason
		}
	}
	for id, info := range readMembers(m.joined) {
		if old, ok := before.Members[id]; !ok {
			p.Joined[id] = info
		} else if !bytes.Equal(old, info) {
			p.Updated[id] = info
		}
		p.Members[id] = info
	}
}

// readPresence reads who is there; what cannot be read counts as missing.
func readPresence(topic string, m *incoming) *Presence {
	p := &Presence{Topic: topic, Version: -1}
	if len(m.members) > 0 && m.members[0] == '[' {
		p.Members = readMembers(m.members)
	}
	p.Count = int64(len(p.Members))
	if count, ok := numberOf(m.count); ok {
		p.Count = count
	}
	if version, ok := numberOf(m.version); ok {
		p.Version = version
	}
	return p
}

// readMembers returns what members say about themselves, by id; nil: nothing.
func readMembers(array []byte) map[string][]byte {
	found := make(map[string][]byte)
	for one := range elements(array) {
		id, hasID, info := "", false, []byte(nil)
		for name, value := range members(one) {
			switch string(name) {
			case `"id"`:
				id, hasID = textOf(value)
			case `"info"`:
				info = append([]byte(nil), value...)
			}
		}
		if hasID {
			found[id] = info
		}
	}
	return found
}
