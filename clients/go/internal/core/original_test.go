package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kps.internal/kps/internal/original"
)

// What the client makes of what servers of the original say, and that these understand it.
func TestServersOfTheOriginal(t *testing.T) {
	for _, x := range original.Exchanges(t, "../../../../spec") {
		t.Run(x.Name, func(t *testing.T) {
			made := original.Play(t, x, openFamiliar)
			if want := original.Made(x.Name); !slices.Equal(made, want) {
				t.Errorf("the client makes of it\n  %s\ninstead of\n  %s", strings.Join(made, "\n  "), strings.Join(want, "\n  "))
			}
		})
	}
}

// familiar is a client, as an original.Client.
type familiar struct {
	*world
	subs     map[string]*Subscription
	asks     map[string]*Question
	statuses map[string]*Status
	pending  []string // messages that it has sent
	ended    []string // what was told of the ends of connections
	unacked  map[string]*Acknowledgement
}

func openFamiliar(t *testing.T, id string) original.Client {
	f := &familiar{
		world:    newWorld(t, func(c *Config) { c.ID = id }),
		subs:     make(map[string]*Subscription),
		asks:     make(map[string]*Question),
		statuses: make(map[string]*Status),
		unacked:  make(map[string]*Acknowledgement),
	}
	f.pending = append(f.pending, f.open())
	return f
}

func (f *familiar) Do(m original.Message) bool {
	switch {
	case m.Action == "ping":
		return !f.s.IsReady()
	case !f.s.IsReady() || m.Topic+m.To+m.AckID == "":
		return false
	}
	request := &Request{Target: m.Topic + m.To, ToID: m.To != "", Data: payload(m.Data), Timeout: 5 * time.Second}
	publication := &Publication{Target: m.Topic + m.To, Data: payload(m.Data)}
	sub, question := f.subs[m.Topic], f.asks[m.AckID]
	switch {
	case m.Action == "subscribe" && m.Topic != "" && sub == nil:
		f.subs[m.Topic] = f.subscribe(Key{Topic: m.Topic}, &Wanted{})
	case m.Action == "unsubscribe" && sub != nil:
		f.s.Unsubscribe(sub, f.now)
		delete(f.subs, m.Topic)
	case m.Action == "publish" && m.Topic != "":
		f.must(f.s.Send(publication))
	case m.Action == "direct_message" && m.To != "":
		publication.Kind = ToID
		f.must(f.s.Send(publication))
	case m.Action == "publish_to_server" && m.To != "":
		publication.Kind = ToServer
		f.must(f.s.Send(publication))
	case strings.HasSuffix(m.Action, "_with_ack") && request.Target != "" && m.AckID != "":
		q, err := f.s.Ask(request, f.now, nil)
		f.must(err)
		f.asks[q.name] = q
	case m.Action == "get_ack_status" && question != nil:
		status, err := f.s.AskStatus(question, f.now, nil)
		f.must(err)
		f.statuses[m.AckID] = status
	case m.Action == "cancel_ack" && question != nil:
		f.s.Cancel(question, nil, f.now)
	case m.Action == "ack" && f.unacked[m.AckID] != nil:
		f.s.Settle(f.unacked[m.AckID], Outcome{Failed: m.Error != "", Error: m.Error}, f.now)
	default:
		return false
	}
	return true
}

// written notes what the client has sent, and answers its probes as the original does.
func (f *familiar) written() {
	for _, text := range f.sent() {
		m := original.Read(text)
		if strings.HasPrefix(m.AckID, "probe_") {
			f.says(fmt.Sprintf(`{"action":"ack_status","ack_id":%q}`, m.AckID))
		}
		f.pending = append(f.pending, text)
	}
}

func (f *familiar) Sent(wanted original.Message) string {
	f.written()
	for i, text := range f.pending {
		if m := original.Read(text); m.IsLike(wanted) {
			f.pending = f.pending[i+1:]
			return text
		}
	}
	return "nothing"
}

func (f *familiar) Say(text string) {
	f.says(text)
	f.written()
}

func (f *familiar) End(code int) {
	f.events = append(f.events, f.Told()...)
	if code > 0 {
		f.closes(code)
	}
	f.link.Lost(f.now, "gone")
	for range 60 {
		f.pass(time.Second)
		if slices.Contains(f.told(), "needed") {
			f.s.emit(ConnectNeeded{})
			f.open()
			f.says(fmt.Sprintf(`{"action":"pong","id":%q}`, f.s.ID()))
			f.told()
			f.ended = append(f.ended, "comes back")
			f.written()
			return
		}
	}
	f.ended = append(f.ended, "does not come back")
}

func (f *familiar) ID() string { return f.s.ID() }

func (f *familiar) Pass(d time.Duration) { f.pass(d); f.written() }

func (f *familiar) Answer(m original.Message) string {
	switch m.Action {
	case "subscribe":
		if sub := f.subs[m.Topic]; !f.s.IsSettled(sub) || sub.Err != nil {
			return "not subscribed to " + m.Topic
		}
		return "subscribed to " + m.Topic
	case "get_ack_status":
		return fmt.Sprintf("status %v", f.statuses[m.AckID].Known)
	}
	q := f.asks[m.AckID]
	var outcomes []string
	for _, o := range q.Outcomes {
		line := o.ID + " handled it"
		if !o.Success {
			line = o.ID + " failed: " + o.Error
		}
		outcomes = append(outcomes, line)
	}
	slices.Sort(outcomes)
	switch {
	case !q.Done:
		outcomes = append(outcomes, "goes on")
	case q.Err != nil:
		outcomes = append(outcomes, q.Err.Text)
	}
	return original.Outcomes(outcomes)
}

func (f *familiar) Told() []string {
	lines := f.ended
	f.ended = nil
	note := func(prefix string, sub *Subscription) {
		for _, m := range f.takeAll(sub) {
			lines = append(lines, fmt.Sprintf("%s %s from %s", prefix, original.Payload(m.Data), m.From))
			if m.Ack != nil {
				f.unacked[m.Ack.ackID] = m.Ack
			}
		}
	}
	for topic, sub := range f.subs {
		note(topic, sub)
	}
	note("direct", f.s.Direct())
	for _, event := range f.s.Events() {
		switch e := event.(type) {
		case Refused:
			lines = append(lines, "error: "+e.Error.Text)
		case Ended:
			lines = append(lines, "ended: "+e.Error.Text)
		}
	}
	return lines
}

func (f *familiar) IsOver() bool { return f.s.End() != nil }
