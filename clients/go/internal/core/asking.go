package core

import (
	"container/heap"
	"fmt"
	"math"
	"time"
)

// Request is a message that its receivers answer, or of which the server tells how many got it.
type Request struct {
	Target    string // topic or id
	ToID      bool
	Data      []byte
	Headers   []byte
	MessageID string
	Timeout   Time

	// What a publisher wants of the receivers.
	Expect, ExpectGroups []string
	Key                  string
	Retry                int
}

// Question is a question to the server, which ends once: with the answer or with an error.
type Question struct {
	// Changed is called when something has come, and when it has ended.
	Changed func()
	// Done tells that it has ended, and Err why, unless the answer has come.
	Done bool
	Err  *Error

	Delivered int64     // of a receipt: how many got the message; -1: the server does not tell
	Past      *Past     // of a question for messages of the past
	Presence  *Presence // of a question for the members of a topic

	// Of an ack request.
	Outcomes []*AckOutcome
	Version  int64 // of the members of the topic when the message was published; 0: nobody looks

	name     string
	kind     questionKind
	topic    string
	ack      *pendingAck
	repeat   *repeat
	statuses []*Status
}

type questionKind int

const (
	aboutBarrier questionKind = iota
	aboutPast
	aboutPresence
	aboutAck
)

// ID is the name of an ack request.
func (q *Question) ID() string { return q.name }

func (q *Question) changed() {
	if q.Changed != nil {
		q.Changed()
	}
}

// pendingAck is what an ack request has besides. Its time begins when it leaves the queue;
// meanwhile we look again and again.
type pendingAck struct {
	question *Question
	timeout  Time
	asked    Time
	started  Time  // when it was last seen in the queue
	position int64 // its end in the stream to the server
	lookAt   Time
	size     int // bytes of its outcomes
	known    map[string]bool
	place    int // in the heap
}

// Status is a question for the status of an ack request.
type Status struct {
	Changed func()
	Done    bool
	Err     *Error
	Known   map[string]bool // the receivers, and whether each has answered
}

func (s *Status) end(known map[string]bool, err *Error) {
	s.Done, s.Known, s.Err = true, known, err
	if s.Changed != nil {
		s.Changed()
	}
}

const (
	// ackGrace is how long the client waits beyond the timeout of an ack request: the server
	// sends the final answer only when the timeout is over (spec, 6.7).
	ackGrace = time.Second
	// writeTime is how long a request may be in the queue, or its timeout if that is longer.
	writeTime = 5 * time.Second
	// silentEnd is when a final answer without outcomes on level 1 means that nobody answered in
	// time. A server of the original always ends a request after 5 s, and leaves out who did not
	// answer. When it asked nobody, it says the same at once.
	silentEnd = 4500 * time.Millisecond
)

// asking keeps all questions that wait for an answer, by name. So one place ends them, and a lost
// or late answer affects its own question only.
type asking struct {
	session *Session
	byName  map[string]*Question
	order   []*Question // as they were asked; ended ones are removed now and then
	acks    ackHeap
	count   int
	size    int // bytes of all outcomes
	repeats repeats
}

func (a *asking) init(s *Session) {
	a.session, a.byName = s, make(map[string]*Question)
	// Not from 0: a server of the original may answer what an earlier program with this id has asked.
	a.count = int(s.config.Random() >> 1)
	a.repeats.init(s)
}

func (a *asking) newName(kind string) string {
	a.count++
	return fmt.Sprintf("%s_%d", kind, a.count)
}

// requireRoom refuses a question while too many wait, for a silent server for instance.
func (a *asking) requireRoom() *Error {
	if len(a.byName) >= max(a.session.config.Limits.QueueBytes, 1<<20)/costOfQuestion {
		return errorf(QueueFull, "too many requests wait for the server's answers")
	}
	return nil
}

func (a *asking) add(q *Question) {
	a.byName[q.name] = q
	a.order = append(a.order, q)
	if len(a.order) > 2*len(a.byName)+64 {
		rest := a.order[:0]
		for _, one := range a.order {
			if !one.Done {
				rest = append(rest, one)
			}
		}
		clear(a.order[len(rest):])
		a.order = rest
	}
	if q.repeat != nil {
		a.repeats.size += q.repeat.size
	}
}

func (a *asking) find(name string, kind questionKind) *Question {
	if q := a.byName[name]; q != nil && q.kind == kind {
		return q
	}
	return nil
}

// end ends a question, with an error unless the answer has come.
func (a *asking) end(q *Question, err *Error) {
	if q.Done {
		return
	}
	q.Done, q.Err = true, err
	delete(a.byName, q.name)
	if q.repeat != nil {
		a.repeats.size -= q.repeat.size
		q.repeat = nil
	}
	if q.ack != nil {
		a.size -= q.ack.size
		if q.ack.place >= 0 {
			heap.Remove(&a.acks, q.ack.place)
		}
		for _, status := range q.statuses {
			status.end(q.knownStatus(), err)
		}
		q.statuses = nil
	}
	q.changed()
}

func (a *asking) endAll(err *Error) {
	for _, q := range a.order {
		a.end(q, err)
	}
	a.order = nil
}

// -- asking

// Ask sends an ack request.
func (s *Session) Ask(r *Request, now Time, changed func()) (*Question, *Error) {
	s.now = now
	a := &s.asking
	if err := s.checkRequest(r); err != nil {
		return nil, err
	}
	q := &Question{name: a.newName("client_ack_" + s.id), kind: aboutAck, Changed: changed}
	q.ack = &pendingAck{question: q, timeout: r.Timeout, asked: now, started: now,
		lookAt: now + lookEvery, place: -1}
	write := func(timeout Time, until float64) []byte {
		return r.write(q.name, s.id, timeout, until, s.link.level)
	}
	message := write(r.Timeout, 0)
	if err := s.sendQuestion(q, r, message, write); err != nil {
		return nil, err
	}
	q.ack.position = s.link.out.end()
	heap.Push(&a.acks, q.ack)
	return q, nil
}

func (s *Session) checkRequest(r *Request) *Error {
	check := checkTopic
	if r.ToID {
		check = checkID
	}
	if err := check(r.Target); err != nil {
		return err
	}
	for _, name := range [...]string{r.MessageID, r.Key} {
		if name != "" {
			if err := checkName("a message id or a key", name, longestName); err != nil {
				return err
			}
		}
	}
	for _, name := range append(r.Expect[:len(r.Expect):len(r.Expect)], r.ExpectGroups...) {
		if err := checkName("whom one expects", name, longestName); err != nil {
			return err
		}
	}
	if r.Retry < 0 || r.Timeout < 0 {
		return errorf(InvalidArgument, "a timeout and a number of retries are not negative")
	}
	return s.requireFeatures(r.needs())
}

func (r *Request) needs() features {
	var needed features
	if len(r.Expect) > 0 {
		needed |= Expect
	}
	if len(r.ExpectGroups) > 0 || r.Key != "" || r.Retry > 0 {
		needed |= Groups
	}
	if len(r.Headers) > 0 {
		needed |= Headers
	}
	if r.MessageID != "" {
		needed |= MessageIDs
	}
	return needed
}

// sendQuestion sends a question and notes it. write writes it again, for another connection.
func (s *Session) sendQuestion(
	q *Question, r *Request, message []byte, write func(Time, float64) []byte,
) *Error {
	if err := s.asking.requireRoom(); err != nil {
		return err
	}
	if err := s.link.check(message); err != nil {
		return err
	}
	if r != nil && r.MessageID != "" {
		repeat, err := s.asking.repeats.new(write, len(message))
		if err != nil {
			return err
		}
		q.repeat = repeat
	}
	s.link.send(message)
	s.asking.add(q)
	return nil
}

// PublishWithReceipt publishes; the question ends when the server has passed the message on.
func (s *Session) PublishWithReceipt(r *Request, now Time, changed func()) (*Question, *Error) {
	s.now = now
	if err := s.checkRequest(r); err != nil {
		return nil, err
	}
	if s.link.level == 1 { // which does not tell to how many
		p := Publication{Target: r.Target, Data: r.Data}
		message := p.write(s.id, 1)
		if err := s.link.check(message); err != nil {
			return nil, err
		}
		s.link.send(message)
		return s.barrier(changed)
	}
	q := &Question{name: s.asking.newName("receipt"), Changed: changed, Delivered: -1}
	write := func(_ Time, until float64) []byte { return r.writeReceipt(q.name, until) }
	return q, s.sendQuestion(q, r, write(0, 0), write)
}

// Flush asks the server to tell when it has handled everything that was sent before.
func (s *Session) Flush(now Time, changed func()) (*Question, *Error) {
	s.now = now
	if err := s.requireLink(); err != nil {
		return nil, err
	}
	return s.barrier(changed)
}

// barrier sends a question whose answer repeats its name. On level 1 that is a question about an
// ack request that nobody has made (spec, 6.8).
func (s *Session) barrier(changed func()) (*Question, *Error) {
	q := &Question{name: s.asking.newName("barrier_" + s.id), Changed: changed, Delivered: -1}
	message := writePing(s.id, q.name)
	if s.link.level == 1 {
		message = writeAbout("get_ack_status", q.name, s.id, 1)
	}
	return q, s.sendQuestion(q, nil, message, nil)
}

// Forget ends a question whose caller has stopped waiting.
func (s *Session) Forget(q *Question) {
	q.Changed = nil
	s.asking.end(q, nil)
}

// AskStatus asks for the status of an ack request.
func (s *Session) AskStatus(q *Question, now Time, changed func()) (*Status, *Error) {
	s.now = now
	status := &Status{Changed: changed}
	if q.Done {
		status.end(q.knownStatus(), q.Err)
		return status, nil
	}
	if err := s.requireLink(); err != nil {
		return nil, err
	}
	message := writeAbout("get_ack_status", q.name, s.id, s.link.level)
	if err := s.link.check(message); err != nil {
		return nil, err
	}
	s.link.send(message)
	q.statuses = append(q.statuses, status)
	return status, nil
}

// ForgetStatus forgets a question whose caller has stopped waiting.
func (s *Session) ForgetStatus(q *Question, status *Status) {
	for i, one := range q.statuses {
		if one == status {
			q.statuses = append(q.statuses[:i:i], q.statuses[i+1:]...)
			return
		}
	}
}

// Cancel ends an ack request: with an error, or none if the program wants no more outcomes.
func (s *Session) Cancel(q *Question, err *Error, now Time) {
	s.now = now
	s.giveUp(q, err)
}

func (s *Session) giveUp(q *Question, err *Error) {
	if q.Done {
		return
	}
	s.asking.end(q, err)
	if s.link != nil && s.link.registered {
		// It must go out also without room, or the server goes on.
		s.link.send(writeAbout("cancel_ack", q.name, s.id, s.link.level))
	}
}

// -- time

type ackHeap []*pendingAck

func (h ackHeap) Len() int           { return len(h) }
func (h ackHeap) Less(i, j int) bool { return h[i].lookAt < h[j].lookAt }
func (h ackHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *ackHeap) Push(one any) {
	ack := one.(*pendingAck)
	ack.place = len(*h)
	*h = append(*h, ack)
}

func (h *ackHeap) Pop() any {
	last := len(*h) - 1
	ack := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	ack.place = -1
	return ack
}

func (a *asking) deadline() Time {
	if len(a.acks) == 0 {
		return never
	}
	return a.acks[0].lookAt
}

func (a *asking) tick(now Time) {
	for len(a.acks) > 0 && a.acks[0].lookAt <= now {
		if ack := a.acks[0]; !a.look(ack, now) {
			heap.Fix(&a.acks, ack.place)
		}
	}
}

// look gives a request up if its time is over, which begins when it leaves the queue. It tells
// whether it has.
func (a *asking) look(ack *pendingAck, now Time) bool {
	var err *Error
	if link := a.session.link; link != nil && link.registered && link.out.gone < ack.position {
		by := ack.asked + max(ack.timeout, writeTime)
		ack.started, ack.lookAt = now, min(now+lookEvery, by)
		if now < by {
			return false
		}
		err = errorf(RequestTimeout, "the network was too slow for the request")
	} else {
		if ack.lookAt = addTime(ack.started, ack.timeout+ackGrace); now < ack.lookAt {
			return false
		}
		err = errorf(RequestTimeout, "the server did not answer in time")
	}
	a.session.giveUp(ack.question, err)
	return true
}

// addTime adds two times, the second of which may be very long.
func addTime(a, b Time) Time {
	if b > math.MaxInt64-a-time.Hour {
		return never - time.Hour
	}
	return a + b
}
