package core

// The state of each topic and pattern of the program, between client and server. The program's
// subscriptions survive reconnects; the server forgets them with the connection:
//
//	waiting --ask--> asked --confirmed--> live
//	asked --refused temporarily, or no answer--> refused --ask--> asked
//	refused --confirmed late--> live
//	live, asked, refused --leave--> leaving --confirmed--> (none)
//	leaving --ask--> asked
//	asked --refused for good--> (none)
//
// When a connection is lost, every topic becomes waiting, and those that are leaving are removed.
// The server answers questions about one topic in order, so only the last answer counts.
type topicState int

const (
	topicWaiting topicState = iota
	topicAsked
	topicLive
	topicRefused
	topicLeaving
)

// verdict is what an answer of the server means for a topic.
type verdict int

const (
	// verdictPending: nothing, as another answer is due, or the client asked nothing.
	verdictPending verdict = iota
	// verdictSettled: the server has answered all questions.
	verdictSettled
	// verdictRetry: it was refused temporarily, and the client will ask again.
	verdictRetry
	// verdictFinal: it was refused for good.
	verdictFinal
	// verdictExtra: it concerns only what one subscription wants besides.
	verdictExtra
)

// wish is what a subscription has to do with presence.
type wish struct {
	info     []byte // what the client says about itself; nil: as before
	observes observing
}

type observing int8

const (
	asBefore observing = iota
	observes
	ignores
)

func (w wish) isNone() bool { return w.info == nil && w.observes == asBefore }

func (w wish) appendTo(o object) object {
	o = o.rawIf("info", w.info)
	if w.observes != asBefore {
		o = o.truth("presence", w.observes == observes)
	}
	return o
}

// extra is a question for something besides what the server has been asked: about presence. So a
// subscription can end that wants too much, and others to the same topic go on.
type extra struct {
	asker *Subscription // nil: the program wants less
	wish  wish
}

// topic is a topic or pattern of the program.
type topic struct {
	state         topicState
	joins, leaves int // questions without an answer
	extras        []*extra
	answerBy      Time
	hasBeenLive   bool
	isGranted     bool // whether an extra question was confirmed on this connection
	isReported    bool // whether the program knows of a refusal on this connection
	concurrency   int
	start         *Start // with what of the past the program wants it to begin
	isMissing     bool   // whether messages may have been missed on an earlier connection
	isNarrow      bool   // whether the server has refused to be told many places
	resumes       bool   // whether the last question asked for all behind a place
	info          []byte // what the client says about itself
}

func (t *topic) openQuestions() int { return t.joins + t.leaves + len(t.extras) }

// isDecided tells whether the server has answered whether it has the subscription.
func (t *topic) isDecided() bool { return t.joins == 0 && t.leaves == 0 }

// answerExtra takes an answer as that to an extra question, if it is one.
func (t *topic) answerExtra(joins bool) *extra {
	if !joins || t.joins > 0 || len(t.extras) == 0 {
		return nil
	}
	first := t.extras[0]
	t.extras = t.extras[1:]
	return first
}

// isToBeIgnored tells whether the last question about its members, if one is open, tells to ignore them.
func (t *topic) isToBeIgnored() bool {
	last := asBefore
	for _, question := range t.extras {
		if question.wish.observes != asBefore {
			last = question.wish.observes
		}
	}
	return last == ignores
}

// say notes what the client says about itself, if it is new: later than all questions.
func (t *topic) say(info []byte) {
	if info != nil {
		t.info = info
		for _, question := range t.extras {
			question.wish.info = nil
		}
	}
}

// grant notes that the server has confirmed a question, which is open no more.
func (t *topic) grant(question *extra) {
	if question.wish.info != nil {
		t.info = question.wish.info
	}
}

// forgetQuestions expects no answers any more. The next connection is asked for all that is wanted.
func (t *topic) forgetQuestions() {
	for _, question := range t.extras {
		t.grant(question)
	}
	t.joins, t.leaves, t.extras = 0, 0, nil
}

// answered counts an answer; it tells whether a question of that kind was pending.
func (t *topic) answered(joins bool) bool {
	switch {
	case joins && t.joins > 0:
		t.joins--
	case !joins && t.leaves > 0:
		t.leaves--
	default:
		return false
	}
	return true
}
