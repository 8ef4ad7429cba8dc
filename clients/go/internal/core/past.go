package core

// Past is an answer to a question for messages of the past.
type Past struct {
	Messages []Message
	Epoch    string
	Offset   int64
	Coming   int64
	IsWhole  bool  // whether nothing is missing behind the place that was given
	Lost     int64 // how many messages are missing then; -1: nobody knows
}

// AskPast asks for messages of a topic.
func (s *Session) AskPast(topic string, start *Start, now Time, changed func()) (*Question, *Error) {
	s.now = now
	if err := checkTopic(topic); err != nil {
		return nil, err
	}
	if err := s.requireFeatures(History); err != nil {
		return nil, err
	}
	q := &Question{
		name: s.asking.newName("history"), kind: aboutPast, topic: topic, Changed: changed,
	}
	o := newObject("history").text("topic", topic).text("nonce", q.name)
	return q, s.sendQuestion(q, nil, start.appendTo(o).end(), nil)
}

const largestOffset = LargestNumber - breakOfOffsets

func (s *Session) pastReceived(m *incoming) {
	q := s.asking.find(m.nonce, aboutPast)
	if q == nil {
		return
	}
	told := readStanding(m)
	past := &Past{Epoch: told.epoch, Offset: told.offset, Coming: told.coming,
		IsWhole: !told.isPartial, Lost: told.lost}
	for one := range elements(m.messages) {
		if message, ok := readKept(one); ok {
			message.Topic, message.Epoch = q.topic, told.epoch
			past.Messages = append(past.Messages, message)
		}
	}
	q.Past = past
	s.asking.end(q, nil)
}

func readKept(object []byte) (message Message, ok bool) {
	message.Attempt, message.Data = 1, null
	for name, value := range members(object) {
		switch string(name) {
		case `"offset"`:
			message.Offset, _ = numberOf(value)
		case `"from"`:
			message.From = textOr(value)
		case `"data"`:
			message.Data = append([]byte(nil), value...)
		case `"headers"`:
			message.Headers = headersOf(value)
		}
	}
	return message, 1 <= message.Offset && message.Offset <= largestOffset
}

// headersOf returns a copy of the headers of a message; nothing if there are none.
func headersOf(value []byte) []byte {
	if !hasMembers(value) {
		return nil
	}
	return append([]byte(nil), value...)
}

// placeOf returns the offset of a delivery, and its epoch, if it tells one; 0: it has none.
func placeOf(m *incoming) (epoch string, offset int64) {
	offset, ok := numberOf(m.offset)
	if !ok || offset < 1 || offset > largestOffset || len(m.epoch) > 4*longestEpoch {
		return "", 0
	}
	return m.epoch, offset
}
