package core

import "sync/atomic"

// Message is a message for the program.
type Message struct {
	Topic   string // empty: a direct message
	From    string
	Data    []byte
	Headers []byte // an object of texts, or nothing
	Epoch   string
	Offset  int64 // its number in the history of its topic; 0: none
	Attempt int   // of a member of a group
	Ack     *Acknowledgement

	// Notice is, in place of all that, something besides messages that the program is told.
	Notice func()
}

func (m *Message) size() int {
	return len(m.Data) + len(m.Headers) + costOfMessage
}

// Acknowledgement is the ack that is due for a message once all subscriptions have handled it.
type Acknowledgement struct {
	ackID     string
	epoch     int // number of the connection that brought it: on a later one the ack is void
	remaining int
	failed    bool
	failure   string
	result    []byte
	forMember bool
	notBegun  bool
}

// Outcome is what became of a message at one subscription.
type Outcome struct {
	Failed bool
	Error  string
	Result []byte
	// NotBegun tells that the program has not begun to handle it.
	NotBegun bool
}

// Why a message was not begun.
const (
	queueFull    = "queue full"
	unsubscribed = "unsubscribed"
	noSubscriber = "no subscriber for topic"
)

// Unbegun is the outcome of a message whose subscription has ended.
var Unbegun = Outcome{Failed: true, Error: unsubscribed, NotBegun: true}

// Subscription is one subscription of the program, with the messages that wait for it.
type Subscription struct {
	Key Key
	// Observes tells that the program wants to know who is subscribed.
	Observes bool
	// Changed is called when a message has come to an empty mailbox, when the server has confirmed
	// or refused the subscription, and when it has ended.
	Changed func()
	// Owner is for the driver.
	Owner any
	// Begun counts the messages that the program has begun to handle.
	Begun atomic.Int64
	// Err is why it has ended, unless the program has ended it.
	Err *Error
	// Dropped counts the messages for which there was no room.
	Dropped int

	closed      bool
	awaited     bool // a caller waits for the server's answer, and gets Err
	overflowing bool
	queue       queue
	size        int // bytes of what waits
	watch       *watch
}

// IsOver tells whether it has ended.
func (s *Subscription) IsOver() bool { return s.closed || s.Err != nil }

// Waiting is the number of messages that wait.
func (s *Subscription) Waiting() int { return s.queue.count }

func (s *Subscription) changed() {
	if s.Changed != nil {
		s.Changed()
	}
}

func (s *Subscription) fills(limits *Limits, part int) bool {
	return s.Waiting() > limits.MailboxMessages/part || s.size > limits.MailboxBytes/part
}

// Marks of a mailbox, as parts of it: reading pauses above the first one, and goes on below the
// second one. They are low, because what waits costs memory and helps nobody.
const (
	crowdedPart  = 32
	relievedPart = 64
)

// subscriptions are those of one client.
type subscriptions struct {
	limits *Limits
	byKey  map[Key][]*Subscription
	// patterns are the keys with a pattern, in order.
	patterns []Key
	// routes are the subscriptions of topics, while there are patterns.
	routes map[string][]*Subscription
	direct *Subscription
	memory chunks
	// notices are what the program is told besides messages.
	notices *Subscription

	answer     func(*Acknowledgement)
	crowded    func(*Subscription)
	relieved   func(*Subscription)
	overflowed func(*Subscription)
}

const mostRoutes = 4096

func (s *subscriptions) add(sub *Subscription) {
	if len(s.byKey[sub.Key]) == 0 && sub.Key.IsPattern && sub.Key.Group == "" {
		s.patterns = append(s.patterns, sub.Key)
	}
	s.byKey[sub.Key] = append(s.byKey[sub.Key], sub)
	s.routes = nil
}

func (s *subscriptions) remove(sub *Subscription) {
	var rest []*Subscription // a new one, as routes refer to the old one
	for _, one := range s.byKey[sub.Key] {
		if one != sub {
			rest = append(rest, one)
		}
	}
	s.routes = nil
	if len(rest) > 0 {
		s.byKey[sub.Key] = rest
		return
	}
	delete(s.byKey, sub.Key)
	for i, key := range s.patterns {
		if key == sub.Key {
			s.patterns = append(s.patterns[:i:i], s.patterns[i+1:]...)
			break
		}
	}
}

// receivers returns the subscriptions that get what is published on a topic.
func (s *subscriptions) receivers(topic string) []*Subscription {
	if len(s.patterns) == 0 {
		return s.byKey[Key{Topic: topic}]
	}
	found, ok := s.routes[topic]
	if ok {
		return found
	}
	found = append(found, s.byKey[Key{Topic: topic}]...)
	for _, key := range s.patterns {
		if selects(key.Topic, topic) {
			found = append(found, s.byKey[key]...)
		}
	}
	if s.routes == nil || len(s.routes) >= mostRoutes {
		s.routes = make(map[string][]*Subscription)
	}
	s.routes[topic] = found
	return found
}

// put gives a message to one subscription; it tells whether there was room.
func (s *subscriptions) put(sub *Subscription, message *Message) bool {
	size := message.size()
	if waiting := sub.Waiting(); waiting > 0 &&
		(waiting >= s.limits.MailboxMessages || sub.size+size > s.limits.MailboxBytes) {
		sub.Dropped++
		if !sub.overflowing {
			sub.overflowing = true
			s.overflowed(sub)
		}
		s.settle(message.Ack, Outcome{Failed: true, Error: queueFull, NotBegun: true})
		return false
	}
	sub.queue.push(message, &s.memory)
	sub.size += size
	if sub.Waiting() == 1 {
		sub.changed()
	}
	if sub.fills(s.limits, crowdedPart) {
		s.crowded(sub)
	}
	return true
}

// take removes messages that wait, the oldest first, and appends them to dst: up to most, but one
// that wants an ack comes alone, since a program that ends the subscription returns what it has not
// begun with.
func (s *subscriptions) take(dst []Message, sub *Subscription, most int) []Message {
	if sub.queue.count == 0 {
		return dst
	}
	had := len(dst)
	dst = sub.queue.pop(dst, most, &s.memory)
	for i := range dst[had:] {
		sub.size -= dst[had+i].size()
	}
	sub.overflowing = false
	if sub.watch != nil && !sub.fills(s.limits, relievedPart) {
		s.relieved(sub)
	}
	return dst
}

// settle notes that one subscription has handled a message, or will not.
func (s *subscriptions) settle(ack *Acknowledgement, outcome Outcome) {
	if ack == nil {
		return
	}
	if outcome.NotBegun && ack.forMember {
		ack.notBegun = true
	}
	if outcome.Failed && !ack.failed {
		ack.failed, ack.failure = true, outcome.Error
	}
	if ack.result == nil {
		ack.result = outcome.Result
	}
	if ack.remaining--; ack.remaining == 0 {
		s.answer(ack)
	}
}

// end removes a subscription that the program has ended, and what waits for it.
func (s *subscriptions) end(sub *Subscription) {
	sub.closed = true
	for sub.Waiting() > 0 {
		for _, message := range s.take(nil, sub, sub.Waiting()) {
			s.settle(message.Ack, Unbegun)
		}
	}
	if sub.Err == nil {
		s.remove(sub)
	}
	sub.changed()
}

// refuse ends subscriptions with an error: all of a key, or only one. What waits remains.
func (s *subscriptions) refuse(key Key, err *Error, only *Subscription) []*Subscription {
	var ended []*Subscription
	for _, sub := range s.byKey[key] {
		if only == nil || sub == only {
			ended = append(ended, sub)
		}
	}
	for _, sub := range ended {
		s.remove(sub)
		sub.Err = err
		sub.changed()
	}
	return ended
}
