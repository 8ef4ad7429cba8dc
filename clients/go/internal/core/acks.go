package core

// AckOutcome is what became of a message at one receiver, or one group of them.
type AckOutcome struct {
	ID      string // of the client; of a group, of the member that had it last
	Success bool
	Error   string
	Result  []byte // JSON; nothing: there is none
	AckID   string // of the server, on level 1

	// Of a group.
	Key      Key
	Attempts int
	Failures [][2]string // members of earlier attempts, and their errors
}

// Name is by what name a program finds it.
func (o *AckOutcome) Name() string {
	if o.Key.Group != "" {
		return o.Key.Name()
	}
	return o.ID
}

// askedNobody tells that nobody was there to handle the message (spec, 16.1).
func (o *AckOutcome) askedNobody() bool {
	return o.Attempts == 0 && (o.Error == noSubscriber || o.Error == "no member")
}

const (
	timedOut     = "timeout"
	disconnected = "disconnected"
)

// updated takes outcomes of a request, and whether they are the last ones.
func (a *asking) updated(m *incoming, isEnd bool) {
	q := a.find(m.ackID, aboutAck)
	if q == nil {
		return
	}
	var err *Error
	if isEnd {
		q.Version, _ = numberOf(m.version)
		if version, ok := numberOf(m.presence); ok {
			q.Version = version
		}
		if !hasMembers(m.responses) && a.isSilence(q) {
			err = errorf(RequestTimeout, "nobody had answered when the server's time was over")
		}
	}
	if !a.takeOutcomes(q, m) {
		return
	}
	if isEnd {
		a.end(q, err)
	} else {
		q.changed()
	}
}

func (a *asking) isSilence(q *Question) bool {
	return a.session.link.level == 1 && a.session.now-q.ack.started >= silentEnd
}

// takeOutcomes takes the outcomes in a message; it returns false if the request has ended by that.
func (a *asking) takeOutcomes(q *Question, m *incoming) bool {
	for name, value := range members(m.responses) {
		if value[0] != '{' {
			continue
		}
		outcome := readOutcome(value)
		outcome.ID = textOr(name)
		if !a.record(q, outcome.ID, outcome) {
			return false
		}
	}
	for value := range elements(m.groups) {
		if value[0] != '{' {
			continue
		}
		outcome := readGroupOutcome(value)
		// No client's id has such characters.
		kind := "\x00topic\x00"
		if outcome.Key.IsPattern {
			kind = "\x00pattern\x00"
		}
		name := kind + outcome.Key.Topic + "\x00" + outcome.Key.Group
		if !a.record(q, name, outcome) {
			return false
		}
	}
	for value := range elements(m.missing) {
		if id, ok := textOf(value); ok &&
			!a.record(q, id, &AckOutcome{ID: id, Error: timedOut}) {
			return false
		}
	}
	return true
}

// record keeps an outcome; without room it ends the request, and returns false.
func (a *asking) record(q *Question, name string, outcome *AckOutcome) bool {
	if q.ack.known[name] {
		return true // the first one counts
	}
	size := costOfOutcome + len(name) + len(outcome.Error) + len(outcome.Result)
	for _, failure := range outcome.Failures {
		size += costOfOutcome + len(failure[0]) + len(failure[1])
	}
	if a.size+size > a.session.config.Limits.ResultBytes {
		a.session.giveUp(q,
			errorf(QueueFull, "the outcomes of ack requests take too much memory"))
		return false
	}
	if q.ack.known == nil {
		q.ack.known = make(map[string]bool)
	}
	q.ack.known[name] = true
	q.ack.size += size
	a.size += size
	q.Outcomes = append(q.Outcomes, outcome)
	return true
}

func hasMembers(object []byte) bool {
	for range members(object) {
		return true
	}
	return false
}

func readOutcome(value []byte) *AckOutcome {
	outcome := &AckOutcome{}
	for name, value := range members(value) {
		switch string(name) {
		case `"success"`:
			outcome.Success = isTrue(value)
		case `"error"`:
			outcome.Error = textOr(value)
		case `"result"`:
			if !isNull(value) {
				outcome.Result = append([]byte(nil), value...)
			}
		case `"ack_id"`:
			outcome.AckID = textOr(value)
		}
	}
	return outcome
}

func readGroupOutcome(value []byte) *AckOutcome {
	outcome := readOutcome(value)
	for name, value := range members(value) {
		switch string(name) {
		case `"member"`:
			outcome.ID = textOr(value)
		case `"topic"`:
			if outcome.Key.Topic == "" {
				outcome.Key.Topic = textOr(value)
			}
		case `"pattern"`:
			outcome.Key.Topic, outcome.Key.IsPattern = textOr(value), true
		case `"group"`:
			outcome.Key.Group = textOr(value)
		case `"attempts"`:
			attempts, _ := numberOf(value)
			outcome.Attempts = int(attempts)
		case `"failures"`:
			for failure := range elements(value) {
				outcome.Failures = append(outcome.Failures, readFailure(failure))
			}
		}
	}
	return outcome
}

func readFailure(value []byte) (failure [2]string) {
	for name, value := range members(value) {
		switch string(name) {
		case `"member"`:
			failure[0] = textOr(value)
		case `"error"`:
			failure[1] = textOr(value)
		}
	}
	return failure
}

// statusReceived takes the status of an ack request, or the answer to a barrier on level 1.
func (a *asking) statusReceived(m *incoming) {
	q := a.find(m.ackID, aboutAck)
	if q == nil {
		a.passed(m.ackID, -1)
		return
	}
	if len(q.statuses) == 0 {
		return
	}
	known := make(map[string]bool)
	for name, value := range members(m.status) {
		known[textOr(name)] = isTrue(value)
	}
	status := q.statuses[0]
	q.statuses = q.statuses[1:]
	status.end(known, nil)
}

func (q *Question) knownStatus() map[string]bool {
	known := make(map[string]bool)
	for _, outcome := range q.Outcomes {
		known[outcome.Name()] = outcome.Error != timedOut
	}
	return known
}

// passed ends a question that the server has reached.
func (a *asking) passed(name string, delivered int64) {
	if q := a.byName[name]; q != nil && q.kind != aboutAck {
		q.Delivered = delivered
		a.end(q, nil)
	}
}

// refused ends the question that an error names; it returns false if it names none of ours.
func (a *asking) refused(m *incoming, err *Error) bool {
	if q := a.find(m.ackID, aboutAck); q != nil {
		switch err.Request {
		case "publish_with_ack", "publish_to_id_with_ack":
			a.end(q, a.repeats.refusal(q, err))
			return true
		case "get_ack_status":
			if len(q.statuses) > 0 {
				status := q.statuses[0]
				q.statuses = q.statuses[1:]
				status.end(nil, err)
			}
			return true
		}
	}
	for _, name := range [...]string{m.nonce, m.receipt} {
		if q := a.byName[name]; q != nil && q.kind != aboutAck {
			a.end(q, a.repeats.refusal(q, err))
			return true
		}
	}
	return false
}

// Answer tells what a request has come to (spec, 16.1): the first result, or an error. It is
// known if done is true.
func (q *Question) Answer() (result []byte, err *Error, done bool) {
	for _, outcome := range q.Outcomes {
		if outcome.Success {
			return outcome.Result, nil, true
		}
	}
	if !q.Done {
		return nil, nil, false
	}
	if q.Err != nil {
		return nil, q.Err, true
	}
	return nil, q.failure(), true
}

func (q *Question) failure() *Error {
	errors := make(map[string]string)
	text, isSilent := "", true
	for _, outcome := range q.Outcomes {
		if outcome.askedNobody() {
			continue
		}
		name := outcome.ID
		if name == "" {
			name = outcome.Name()
		}
		errors[name] = outcome.Error
		told := outcome.Error != timedOut && outcome.Error != disconnected
		if text == "" || told && (text == timedOut || text == disconnected) {
			text = outcome.Error
		}
		isSilent = isSilent && outcome.Error == timedOut
	}
	switch {
	case len(errors) == 0:
		return errorf(NobodyThere, "nobody was there to handle the request")
	case isSilent:
		return errorf(RequestTimeout, "nobody answered the request in time")
	case text == "":
		text = "the request failed"
	}
	return &Error{Kind: RequestFailed, Text: text, Errors: errors}
}
