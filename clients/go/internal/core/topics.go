package core

import "time"

// retries is the backoff before asking again for topics that the server has refused temporarily.
var retries = Backoff{500 * time.Millisecond, 2, 30 * time.Second, 0.5}

const (
	// patience is when the client expects no answer any more: a server on level 1 may have
	// refused the topic, and its errors do not name it.
	patience = 10 * time.Second
	// firstWindow is how many refused topics are asked for at a time. To ask for all at once would
	// have most of them refused again.
	firstWindow = 64
)

// topics subscribes, and asks again when the server refuses for now.
type topics struct {
	session   *Session
	byKey     map[Key]*topic
	order     []Key // as the program has asked for them
	retryAt   Time
	lookAt    Time // when to look for questions without an answer
	attempt   int
	window    int
	open      int // bytes of open questions, which nothing else bounds
	standings standings
	positions *positions // matches errors with questions where errors do not name these
}

func (t *topics) init(s *Session) {
	t.session, t.byKey = s, make(map[Key]*topic)
	t.standings.init()
	t.reset()
}

func (t *topics) reset() {
	t.retryAt, t.lookAt, t.attempt, t.open, t.window = never, never, 0, 0, firstWindow
}

func (t *topics) add(key Key) *topic {
	found := &topic{concurrency: 1}
	t.byKey[key] = found
	t.order = append(t.order, key)
	return found
}

func (t *topics) delete(key Key) {
	delete(t.byKey, key)
	if len(t.order) <= 2*len(t.byKey)+64 {
		return // most are removed at once, now and then
	}
	t.order = t.keys()
}

// keys returns all topics and patterns, in order.
func (t *topics) keys() []Key {
	seen := make(map[Key]bool, len(t.byKey))
	rest := make([]Key, 0, len(t.byKey))
	for _, key := range t.order {
		if t.byKey[key] != nil && !seen[key] {
			seen[key] = true
			rest = append(rest, key)
		}
	}
	return rest
}

// isSettled tells whether the server has answered all questions about a topic.
func (t *topics) isSettled(key Key) bool {
	found := t.byKey[key]
	return found == nil || found.state == topicLive && len(found.extras) == 0
}

// hasOpen tells whether answers about topics are due.
func (t *topics) hasOpen() bool { return t.open > 0 }

func costOfKey(key Key) int { return len(key.Topic) + len(key.Group) + 100 }

// want subscribes, now or on the next connection. It changes nothing if it returns an error. The
// result is the question, if it only asks for something besides.
func (t *topics) want(key Key, start *Start, wish wish, concurrency int) (*extra, *Error) {
	s := t.session
	if s.isReady() {
		needed := key.needs()
		if start != nil {
			needed |= History
		}
		if wish.info != nil || wish.observes == observes {
			needed |= Presences
		}
		if missing := s.features.missing(needed); missing != "" {
			return nil, lacks(missing)
		}
	}
	if start != nil && t.overlaps(key) {
		return nil, errorf(InvalidArgument,
			"this client is subscribed to %q already: ask for its history instead", key.Topic)
	}
	found := t.byKey[key]
	isNew := found == nil || found.state == topicWaiting || found.state == topicLeaving
	isExtra := found != nil && !wish.isNone() &&
		(found.state == topicLive || found.state == topicAsked)
	if (isNew || isExtra) && wish.observes != ignores && s.isReady() &&
		t.open >= max(s.config.Limits.QueueBytes, 1<<20) {
		return nil, errorf(QueueFull, "too many questions about topics wait for the server's answers")
	}
	if found == nil {
		found = t.add(key)
	}
	if isNew {
		if start != nil || found.state == topicLeaving {
			found.start = start // else another subscription may want some, once connected
		}
		found.concurrency = max(concurrency, 1)
		if s.isReady() {
			t.ask(key, found, wish, false)
		}
	}
	if !isExtra {
		found.say(wish.info)
		return nil, nil
	}
	question := &extra{wish: wish}
	found.extras = append(found.extras, question)
	t.send(key, found, true, nil, wish)
	return question, nil
}

// overlaps tells whether a subscription has a topic already, or some of those of a pattern.
func (t *topics) overlaps(key Key) bool {
	if found := t.byKey[key]; found != nil && found.state != topicLeaving {
		return true
	}
	for other := range t.byKey {
		if key.IsPattern && other.isTopic() && key.has(other.Topic) ||
			key.isTopic() && other.IsPattern && other.has(key.Topic) {
			return true
		}
	}
	return false
}

// isWanted tells whether a subscription that has not ended has a topic.
func (t *topics) isWanted(name string) bool {
	for key, found := range t.byKey {
		if found.state != topicLeaving && key.has(name) {
			return true
		}
	}
	return false
}

// awaitsPast tells whether messages of a topic are none that a subscription wants: they are on
// their way for an earlier one. What the new one wants comes behind its confirmation.
func (t *topics) awaitsPast(name string) bool {
	found := t.byKey[Key{Topic: name}]
	if found == nil || found.state != topicAsked || found.start == nil && found.leaves == 0 {
		return false
	}
	for key := range t.byKey {
		if key.IsPattern && key.has(name) {
			return false
		}
	}
	return true
}

// leave unsubscribes.
func (t *topics) leave(key Key) {
	found := t.byKey[key]
	if found == nil {
		return
	}
	found.info = nil
	if t.session.isReady() && found.state != topicWaiting {
		found.state = topicLeaving
		found.hasBeenLive, found.isGranted = false, false
		found.joins += len(found.extras)
		found.extras = nil
		t.askToLeave(key, found)
	} else {
		t.delete(key)
	}
	if key.Group == "" {
		t.standings.forget(key, t.isWanted)
	}
}

// connected subscribes to everything on a new connection. It returns what the server does not
// have, which has ended by that.
func (t *topics) connected() []Key {
	s := t.session
	t.positions = nil
	if s.link.level == 1 {
		t.positions = newPositions(s.link.out.sent)
	}
	keys := t.keys()
	t.order = keys
	for _, key := range keys {
		if key.isTopic() {
			t.ask(key, t.byKey[key], t.wishOf(key), true)
		}
	}
	var unsupported []Key
	for _, key := range keys {
		// Patterns come behind the topics, which tell their places exactly.
		switch {
		case key.isTopic():
		case s.features.missing(key.needs()) != "":
			unsupported = append(unsupported, key)
			t.delete(key)
		default:
			t.ask(key, t.byKey[key], t.wishOf(key), true)
		}
	}
	return unsupported
}

// disconnected notes that the connection is gone, and with it all subscriptions at the server.
func (t *topics) disconnected() {
	t.standings.disconnected()
	t.reset()
	t.positions = nil
	for _, key := range t.keys() {
		if found := t.byKey[key]; found.state == topicLeaving {
			t.delete(key)
		} else {
			found.state = topicWaiting
			found.forgetQuestions()
			found.isGranted, found.isReported = false, false
		}
	}
}

// confirmed notes that the server has confirmed a question: to subscribe, or to unsubscribe.
func (t *topics) confirmed(key Key, joins bool) verdict {
	found := t.byKey[key]
	if found == nil {
		return verdictPending
	}
	if question := found.answerExtra(joins); question != nil {
		found.grant(question)
		found.isGranted = true
		t.open -= costOfKey(key)
		return verdictExtra
	}
	isLate := joins && found.state == topicRefused
	isAnswer := t.answered(key, found, joins)
	if isAnswer && t.positions != nil {
		t.positions.answered(key.Topic, joins)
	}
	if !isAnswer && !isLate || !found.isDecided() {
		return verdictPending
	}
	if found.state == topicLeaving {
		t.delete(key)
	} else {
		found.state, found.hasBeenLive, found.start = topicLive, true, nil
	}
	t.attempt = 0
	t.window++
	return verdictSettled
}

// refused notes that the server has refused a question. It tells whether the program knows of a
// refusal already, and which extra question was refused.
func (t *topics) refused(key Key, err *Error) (v verdict, wasReported bool, question *extra) {
	found := t.byKey[key]
	joins := err.Request == "subscribe"
	if found == nil {
		return verdictPending, false, nil
	}
	if question = found.answerExtra(joins); question != nil {
		t.open -= costOfKey(key)
		return verdictExtra, false, question
	}
	if !t.answered(key, found, joins) || !found.isDecided() {
		return verdictPending, false, nil
	}
	if joins && found.resumes && err.Code == limitReached {
		found.isNarrow = true // the next question names no places
	}
	wasReported, found.isReported = found.isReported, true
	switch {
	case found.state == topicLeaving && !err.IsTemporary():
		t.delete(key)
		return verdictSettled, wasReported, nil
	case found.state == topicLeaving:
	case !err.IsTemporary(), err.Code == limitReached && !found.hasBeenLive:
		if len(found.extras) > 0 || found.isGranted {
			t.leave(key) // with one of these the server has the subscription
		} else {
			t.delete(key)
		}
		return verdictFinal, wasReported, nil
	default:
		found.state = topicRefused
	}
	t.window = max(1, t.window/2)
	t.retryLater()
	return verdictRetry, wasReported, nil
}

func (t *topics) deadline() Time { return min(t.retryAt, t.lookAt) }

// tick asks again about topics that were refused temporarily, or got no answer.
func (t *topics) tick(now Time) {
	if now >= t.lookAt {
		t.giveUpWaiting(now)
	}
	if now < t.retryAt {
		return
	}
	t.retryAt = never
	asked, more := 0, false
	for _, key := range t.keys() {
		found := t.byKey[key]
		isLeaving := found.state == topicLeaving && found.openQuestions() == 0
		if found.state != topicRefused && !isLeaving {
			continue
		}
		// What is asked while a question is open could not be told apart from that in the answers.
		if asked == t.window || len(found.extras) > 0 {
			more = true
			continue
		}
		asked++
		if isLeaving {
			t.askToLeave(key, found)
		} else {
			t.ask(key, found, t.wishOf(key), false)
		}
	}
	t.countOpen()
	if more {
		t.retryLater()
	}
}

// giveUpWaiting treats questions without an answer in time as refused temporarily.
func (t *topics) giveUpWaiting(now Time) {
	t.lookAt = never
	isLate := false
	for _, found := range t.byKey {
		switch {
		case found.openQuestions() == 0:
		case now < found.answerBy:
			t.lookAt = min(t.lookAt, found.answerBy)
		default:
			isLate = true
			found.forgetQuestions()
			if found.state == topicAsked {
				found.state = topicRefused
			}
		}
	}
	if isLate {
		t.countOpen()
		t.retryLater()
	}
}

func (t *topics) answered(key Key, found *topic, joins bool) bool {
	isAnswer := found.answered(joins)
	if isAnswer {
		t.open -= costOfKey(key)
	}
	return isAnswer
}

// countOpen counts the bytes of open questions. A topic is open until the server has let it go.
func (t *topics) countOpen() {
	t.open = 0
	for key, found := range t.byKey {
		questions := found.openQuestions()
		if found.state == topicLeaving {
			questions = max(questions, 1)
		}
		t.open += questions * costOfKey(key)
	}
}

func (t *topics) retryLater() {
	if t.retryAt == never {
		t.retryAt = t.session.now + retries.delay(t.attempt, t.session.chance())
		t.attempt++
	}
}

// wishOf returns all that the program wants of the presence on a topic.
func (t *topics) wishOf(key Key) wish {
	found := t.byKey[key]
	w := wish{info: found.info}
	switch {
	case anyObserves(t.session.subs.byKey[key]):
		w.observes = observes
	case found.isGranted:
		w.observes = ignores // of what was refused for now, the server knows what it has confirmed besides
	}
	return w
}

// ask asks to subscribe.
func (t *topics) ask(key Key, found *topic, wish wish, isBack bool) {
	found.state = topicAsked
	found.joins++
	found.isMissing = isBack || found.hasBeenLive
	start := t.start(key, found)
	found.resumes = start.resumes()
	t.send(key, found, true, start, wish)
}

func (t *topics) askToLeave(key Key, found *topic) {
	found.leaves++
	t.send(key, found, false, nil, wish{})
}

// send is not refused for want of room: a subscription must not depend on what else waits.
func (t *topics) send(key Key, found *topic, joins bool, start *Start, wish wish) {
	s := t.session
	t.open += costOfKey(key)
	found.answerBy = s.now + patience
	t.lookAt = min(t.lookAt, found.answerBy)
	if joins {
		var more object
		if s.link.level > 1 {
			more = start.appendTo(more)
			if s.features&Presences != 0 {
				more = wish.appendTo(more)
			}
			if found.concurrency > 1 {
				more = more.number("concurrency", int64(found.concurrency))
			}
		}
		s.link.send(writeSubscribe(key, more, s.id, s.link.level))
	} else {
		s.link.send(writeUnsubscribe(key, s.id, s.link.level))
	}
	if t.positions != nil {
		t.positions.asked(question{s.link.out.sent, key.Topic, joins})
	}
}

// start returns with what of the past to subscribe: what the program wants, or what it has missed.
func (t *topics) start(key Key, found *topic) *Start {
	s := t.session
	switch {
	case key.Group != "" || s.features&History == 0:
		return nil
	case found.start != nil || !found.isMissing:
		return found.start
	case found.isNarrow:
		return t.standings.start(key, 0)
	}
	largest := s.link.maxMessage
	if largest == 0 {
		largest = 1 << 20
	}
	return t.standings.start(key, largest/4)
}

// stand notes where a subscription begins, as its confirmation tells, and tells the program what
// that means.
func (t *topics) stand(key Key, told standing) {
	found := t.byKey[key]
	if found == nil || found.state == topicLeaving || key.Group != "" {
		return
	}
	resumes := found.resumes
	found.resumes = false
	t.standings.begin(key, told, resumes)
	switch {
	case !resumes:
	case told.recovered:
		t.session.emit(Recovered{key.Topic, told.coming})
	default:
		t.session.emit(Lost{key.Topic, told.lost})
	}
}

// -- level 1

// refusedByPosition returns an error that names no request as one about a topic, if it certainly
// is one.
func (t *topics) refusedByPosition(reason string) *Error {
	if t.positions == nil {
		return nil
	}
	s := t.session
	if asked, ok := t.positions.refused(reason); ok {
		return asked.refusal(reason)
	}
	if t.positions.needsProbe() {
		name := t.positions.newName(s.id)
		s.link.send(writeAbout("get_ack_status", name, s.id, 1))
		t.positions.probed(name, s.link.out.sent)
	}
	return nil
}

// probeAnswered notes the answer to a probe, if it is one, and returns what it shows.
func (t *topics) probeAnswered(name string) []*Error {
	if t.positions == nil || name == "" || name != t.positions.probe {
		return nil
	}
	refusals := t.positions.passed()
	for _, err := range refusals {
		if found := t.byKey[Key{Topic: err.Topic}]; found != nil {
			found.isReported = true // when the error came
		}
	}
	return refusals
}
