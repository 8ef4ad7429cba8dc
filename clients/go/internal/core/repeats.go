package core

// repeat is how a question is asked again, and what must then be as it was.
type repeat struct {
	write    func(left Time, until float64) []byte
	size     int
	window   window
	clientID string
	until    float64 // seconds by the server's clock, up to which it certainly remembers the message
	number   int     // its place among all messages with ids
	isAgain  bool    // whether it was sent again
}

// window is for how long a server knows which messages it has handled; without a name it does not.
type window struct {
	name    string
	seconds float64
	most    int64
	time    float64 // of the server, when it told this
	at      Time    // of ours, then
}

func windowIn(object []byte, now Time) window {
	w := window{at: now}
	for name, value := range members(object) {
		switch string(name) {
		case `"window"`:
			w.name = textOr(value)
		case `"seconds"`:
			w.seconds = secondsOf(value)
		case `"most"`:
			w.most, _ = numberOf(value)
		case `"time"`:
			w.time = secondsOf(value)
		}
	}
	return w
}

// until returns the time of the server to which it remembers a message that is sent now. Our clock
// may stand still, but does not run ahead: then it is less.
func (w *window) until(now Time) float64 {
	return w.time + (now - w.at).Seconds() + w.seconds
}

// repeats asks questions again whose messages the server handles only once (spec, 21.3).
type repeats struct {
	session *Session
	count   int
	size    int    // bytes of all messages with ids
	lost    *Error // how the latest connection has ended
}

func (r *repeats) init(s *Session) { r.session = s }

// new notes a message with an id that is sent now.
func (r *repeats) new(write func(Time, float64) []byte, size int) (*repeat, *Error) {
	s := r.session
	if r.size+size > s.config.Limits.QueueBytes {
		return nil, errorf(QueueFull,
			"the messages with ids that wait for answers take too much memory")
	}
	r.count++
	return &repeat{write, size, s.window, s.id, s.window.until(s.now), r.count, false}, nil
}

// disconnected ends the questions of a connection that has ended, but for those with message ids.
func (r *repeats) disconnected(err *Error) {
	r.lost = err
	for _, q := range r.session.asking.order {
		if q.Done {
			continue
		}
		if q.repeat == nil {
			r.session.asking.end(q, err)
			continue
		}
		for _, status := range q.statuses {
			status.end(nil, err)
		}
		q.statuses = nil
		if q.ack != nil {
			q.ack.position = 0 // it waits in no queue, and its time goes on
		}
	}
}

// connected asks again what has no answer, where that is safe.
func (r *repeats) connected() {
	s := r.session
	for _, q := range s.asking.order {
		if q.Done {
			continue
		}
		left := never
		if q.ack != nil {
			left = addTime(q.ack.started, q.ack.timeout) - s.now
		}
		if q.repeat == nil || left <= 0 || !r.isSafe(q.repeat) {
			s.asking.end(q, r.lost)
			continue
		}
		q.repeat.isAgain = true
		s.link.send(q.repeat.write(left, q.repeat.until))
		if q.ack != nil {
			q.ack.position = s.link.out.end()
		}
	}
}

// isSafe tells whether it is the same server, which may still remember a message.
func (r *repeats) isSafe(one *repeat) bool {
	s := r.session
	return one.window.name != "" && s.features&MessageIDs != 0 &&
		s.window.name == one.window.name && s.id == one.clientID &&
		int64(r.count-one.number) < one.window.most
}

// refusal returns how a question ends that the server refuses. Of a repeat that says nothing about
// the first one.
func (r *repeats) refusal(q *Question, err *Error) *Error {
	if q.repeat != nil && q.repeat.isAgain && err.Code != "outcome_unknown" {
		return r.lost
	}
	return err
}
