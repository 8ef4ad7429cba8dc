package core

import (
	"fmt"
	"strings"
)

// positions finds the question that an error answers on level 1, where errors do not name it
// (spec, 5.4). A server answers in order. So an error answers our oldest question about a topic if
// everything that we sent before it was answered. Otherwise we send a probe, whose answer is
// named: a question that is still open when that arrives was refused.
type positions struct {
	confirmed   int    // publications that were confirmed since the last answer that we matched
	probe       string // the name of the probe whose answer we wait for
	open        []question
	settled     int // all messages up to this number have been answered
	probeNumber int
	errors      []string // the latest ones since the probe was sent
	probes      int
}

// question is one about a topic, with its number among all messages that we sent.
type question struct {
	number int
	topic  string
	joins  bool
}

func (q question) refusal(reason string) *Error {
	err := &Error{Kind: ServerError, Text: reason, Topic: q.topic, Request: "unsubscribe"}
	if q.joins {
		err.Request = "subscribe"
	}
	switch reason {
	case "too many messages in too short a time":
		err.Code = "rate_limited"
	case "this client has too many subscriptions", "the server has too many topics":
		err.Code = limitReached
	}
	return err
}

func newPositions(number int) *positions { return &positions{settled: number} }

func (p *positions) asked(q question) { p.open = append(p.open, q) }

// far is among how many questions an answer is looked for. More than a few are refused before it
// only if the server refuses many in a row.
const far = 1000

// answered notes that the server has confirmed a question.
func (p *positions) answered(topic string, joins bool) {
	for i, q := range p.open[:min(len(p.open), far)] {
		if q.topic == topic && q.joins == joins {
			p.open = append(p.open[:i], p.open[i+1:]...)
			p.settle(q)
			return
		}
	}
	p.open = nil // the server does not answer in order: positions tell nothing
}

// refused returns the question that an error answers, if that is certain.
func (p *positions) refused(reason string) (question, bool) {
	// The outcome of a relay comes later than its turn.
	if len(p.open) == 0 || strings.HasPrefix(reason, "failed to relay to server") {
		return question{}, false
	}
	if first := p.open[0]; p.probe == "" && first.number == p.settled+p.confirmed+1 {
		p.open = p.open[1:]
		p.settle(first)
		return first, true
	}
	p.errors = append(p.errors, reason)
	if len(p.errors) > len(p.open) {
		p.errors = p.errors[1:]
	}
	return question{}, false
}

// needsProbe tells whether an error came that may answer one of several messages.
func (p *positions) needsProbe() bool { return len(p.errors) > 0 && p.probe == "" }

func (p *positions) probed(name string, number int) { p.probe, p.probeNumber = name, number }

// passed notes the answer to the probe. It returns the refusals that it shows.
func (p *positions) passed() []*Error {
	var refused []question
	for len(p.open) > 0 && p.open[0].number < p.probeNumber {
		refused = append(refused, p.open[0])
		p.open = p.open[1:]
	}
	reasons := p.errors[max(0, len(p.errors)-len(refused)):]
	p.errors = nil
	p.settled, p.confirmed, p.probe = p.probeNumber, 0, ""
	if len(reasons) == 0 {
		return nil
	}
	refusals := make([]*Error, len(refused))
	for i, q := range refused {
		refusals[i] = q.refusal(reasons[max(0, i-(len(refused)-len(reasons)))])
	}
	return refusals
}

func (p *positions) newName(id string) string {
	p.probes++
	return fmt.Sprintf("probe_%s_%d", id, p.probes)
}

func (p *positions) settle(q question) {
	if q.number > p.settled {
		p.settled, p.confirmed = q.number, 0
	}
}
