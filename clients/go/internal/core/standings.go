package core

import "container/list"

// Position is a place in the history of a topic: behind the message with this offset.
type Position struct {
	Epoch  string
	Offset int64
}

func (p Position) appendTo(dst object) object {
	dst = appendText(append(dst, `{"epoch":`...), p.Epoch)
	return dst.number("offset", p.Offset).end()
}

// Start is with which messages of the past a subscription begins, or which are asked for.
type Start struct {
	Since *Position // those behind a place
	Last  int64     // so many of the latest, unless there is a place

	places *places // those behind a place in all topics of a pattern
}

// places is a place in the history of all topics of a pattern.
type places struct {
	epoch  string
	mark   int64
	topics map[string]Position
}

func (s *Start) resumes() bool { return s != nil && (s.Since != nil || s.places != nil) }

func (s *Start) appendTo(o object) object {
	if s == nil {
		return o
	}
	if s.Last > 0 {
		o = o.number("last", s.Last)
	}
	switch {
	case s.Since != nil:
		return s.Since.appendTo(o.name("since"))
	case s.places != nil:
		o = appendText(append(o.name("since"), `{"epoch":`...), s.places.epoch)
		o = append(o.number("mark", s.places.mark).name("topics"), '{')
		isFirst := true
		for topic, position := range s.places.topics {
			if !isFirst {
				o = append(o, ',')
			}
			isFirst = false
			o = position.appendTo(append(appendText(o, topic), ':'))
		}
		return append(o, `}}`...)
	}
	return o
}

// standing is where a subscription begins, as its confirmation tells.
type standing struct {
	epoch     string
	offset    int64
	mark      int64 // for a pattern: a number of the server's, which grows with what is published
	coming    int64
	recovered bool
	isPartial bool  // whether it said that not everything comes
	lost      int64 // how many messages do not come; -1: nobody knows
}

const longestEpoch = 256

func readStanding(m *incoming) standing {
	s := standing{epoch: m.epoch, lost: -1, recovered: isTrue(m.recovered)}
	if len(s.epoch) > 4*longestEpoch { // characters have up to four bytes
		s.epoch = ""
	}
	s.isPartial = string(m.recovered) == "false"
	s.offset, _ = numberOf(m.offset)
	s.mark, _ = numberOf(m.mark)
	s.coming, _ = numberOf(m.coming)
	if lost, ok := numberOf(m.lost); ok {
		s.lost = lost
	}
	return s
}

const (
	mostPlaces     = 10_000 // topics of which the place is known; more begin anew after a reconnect
	mostNamed      = 1000   // of them that the place of a pattern names, the latest ones
	mostNamedBytes = 256 * 1024
	costOfPosition = 64 // bytes around a topic
	// breakOfOffsets: offsets go on behind a multiple of it when a server was not stopped in
	// order (spec, 15.2).
	breakOfOffsets = 1 << 32
)

// standings are the places of a client in the topics that have history, so that it can resume
// (spec, 15.5).
type standings struct {
	topics   map[string]*list.Element
	latest   *list.List // of place, the one with the latest message in front
	patterns map[string]standing
	epochs   map[string]string // of topics, as this connection has confirmed them
	told     map[string]bool   // topics of which a confirmation has told what is missing
}

type place struct {
	topic string
	Position
}

func (s *standings) init() {
	s.topics = make(map[string]*list.Element)
	s.latest = list.New()
	s.patterns = make(map[string]standing)
	s.epochs = make(map[string]string)
	s.told = make(map[string]bool)
}

func (s *standings) known(topic string) (Position, bool) {
	if element := s.topics[topic]; element != nil {
		return element.Value.(*place).Position, true
	}
	return Position{}, false
}

func (s *standings) note(topic string, position Position) {
	if element := s.topics[topic]; element != nil {
		element.Value.(*place).Position = position
		s.latest.MoveToFront(element)
		return
	}
	if len(s.topics) >= mostPlaces {
		s.drop(s.latest.Back().Value.(*place).topic)
	}
	s.topics[topic] = s.latest.PushFront(&place{topic, position})
}

func (s *standings) drop(topic string) {
	if element := s.topics[topic]; element != nil {
		s.latest.Remove(element)
		delete(s.topics, topic)
	}
}

// begin notes where a subscription begins, which resumes one or is new.
func (s *standings) begin(key Key, told standing, resumes bool) {
	if !key.IsPattern {
		s.beginTopic(key.Topic, told, resumes)
		return
	}
	if told.epoch == "" {
		delete(s.patterns, key.Topic)
		return
	}
	if before, ok := s.patterns[key.Topic]; !ok || before.epoch != told.epoch {
		s.patterns[key.Topic] = told
	}
	// Else the first mark remains: some of what came after it may not be here yet.
	if told.isPartial {
		for topic := range s.topics {
			if key.has(topic) {
				s.told[topic] = true
			}
		}
	}
}

func (s *standings) beginTopic(topic string, told standing, resumes bool) {
	if told.epoch == "" {
		if _, ok := s.epochs[topic]; !ok { // else it is confirmed once more
			s.drop(topic)
		}
		return
	}
	s.epochs[topic] = told.epoch
	known, ok := s.known(topic)
	if resumes || !ok || known.Epoch != told.epoch {
		s.note(topic, Position{told.epoch, told.offset})
	}
	// Else the topic is known by another subscription, whose place shows what is missing.
}

// disconnected notes that another connection may tell other epochs.
func (s *standings) disconnected() { clear(s.epochs) }

// forget notes that a subscription has ended; isWanted tells whether another one has a topic.
func (s *standings) forget(key Key, isWanted func(string) bool) {
	ended := []string{key.Topic}
	if key.IsPattern {
		delete(s.patterns, key.Topic)
		ended = nil
		for topic := range s.topics {
			if key.has(topic) {
				ended = append(ended, topic)
			}
		}
	}
	for _, topic := range ended {
		if s.knows(topic) && !isWanted(topic) {
			s.drop(topic)
			delete(s.epochs, topic)
			delete(s.told, topic)
		}
	}
}

// knows tells whether there is something to forget. To find out whether a topic is wanted takes long
// where there are many.
func (s *standings) knows(topic string) bool {
	_, hasEpoch := s.epochs[topic]
	return s.topics[topic] != nil || hasEpoch || s.told[topic]
}

// start returns what resumes a subscription on a new connection, if anything does. largest is how
// many bytes it may take: what is not named comes once more, and is dropped here.
func (s *standings) start(key Key, largest int) *Start {
	if !key.IsPattern {
		if position, ok := s.known(key.Topic); ok {
			return &Start{Since: &position}
		}
		return nil
	}
	told, ok := s.patterns[key.Topic]
	if !ok {
		return nil
	}
	named := make(map[string]Position)
	size := 0
	for element := s.latest.Front(); element != nil && len(named) < mostNamed; element = element.Next() {
		one := element.Value.(*place)
		if !key.has(one.topic) {
			continue
		}
		size += 6*(len(one.topic)+len(one.Epoch)) + costOfPosition
		if size > min(largest, mostNamedBytes) {
			break
		}
		named[one.topic] = one.Position
	}
	return &Start{places: &places{told.epoch, told.mark, named}}
}

// passed notes messages that have come, the first of them with an offset. It returns the epoch,
// how many messages before them are missing (-1: nobody knows, as the epoch is another one), and
// how many of them the client has had before.
func (s *standings) passed(topic, epoch string, offset int64, count int) (string, int64, int) {
	if epoch == "" {
		if epoch = s.epochs[topic]; epoch == "" {
			epoch = s.usualEpoch(topic)
		}
	}
	known, ok := s.known(topic)
	missing, repeated, last := int64(0), 0, offset+int64(count)-1
	switch {
	case ok && known.Epoch == epoch:
		repeated = int(min(int64(count), max(0, known.Offset+1-offset)))
		last = max(last, known.Offset)
		if !s.told[topic] && known.Offset/breakOfOffsets == offset/breakOfOffsets {
			missing = max(0, offset-known.Offset-1)
		}
	case ok && !s.told[topic]:
		missing = -1
	}
	delete(s.told, topic)
	s.note(topic, Position{epoch, last})
	return epoch, missing, repeated
}

func (s *standings) usualEpoch(topic string) string {
	for pattern, told := range s.patterns {
		if selects(pattern, topic) {
			return told.epoch
		}
	}
	return ""
}
