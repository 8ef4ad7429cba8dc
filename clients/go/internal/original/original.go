// Package original plays a server of the original implementation to a client of a test. It says what
// was recorded of one (spec/vectors), and, as derived.json, what the specification states of others
// (spec, 6.6, 10.1 and 10.2).
//
// A recording has the messages of both sides. Play has the client send what was sent, where one of
// its calls does that, compares it with the recording, and then says what the server has answered.
// The result tells what the client makes of that.
package original

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Exchange is what clients and a server have said to each other.
type Exchange struct {
	Name     string
	Recorded bool
	Original []step // what was recorded, where KPS answers otherwise
	Steps    []step
}

type step struct {
	Open       string
	Registered bool
	Client     string
	Send       json.RawMessage
	Receives   []json.RawMessage
	WaitS      float64 `json:"wait_s"`
}

// Message is what a client has sent.
type Message struct {
	Action string
	Topic  string
	To     string
	AckID  string `json:"ack_id"`
	Data   json.RawMessage
	Error  string // of the data of an ack
}

// Read reads a message; what it cannot read is empty.
func Read(text string) (m Message) {
	if json.Unmarshal([]byte(text), &m) == nil && m.Action == "ack" {
		_ = json.Unmarshal(m.Data, &m)
	}
	return m
}

// IsLike tells whether two messages have the same action and target.
func (m Message) IsLike(other Message) bool {
	return m.Action == other.Action && m.Topic == other.Topic && m.To == other.To
}

// Client is a client of a test, with the server's end of its connection.
type Client interface {
	// Do has the client send a message; false: none of its calls does that.
	Do(m Message) bool
	// Sent returns the client's next message that is like one, and drops those before it.
	Sent(m Message) string
	// Say has the server send a text. It returns when the client has handled it.
	Say(text string)
	// End ends the connection: with a close code, or 0 for none. The client connects again.
	End(code int)
	// Pass lets time pass, if the test can.
	Pass(d time.Duration)
	// Answer returns what a call has returned, now that the server has answered it.
	Answer(m Message) string
	// Told returns what the program was told since the last call.
	Told() []string
	ID() string
	// IsOver tells whether the client has ended for good.
	IsOver() bool
}

//go:embed derived.json
var derived []byte

// Exchanges returns all of them: those of the specification, and the derived ones. The test is
// skipped where the specification is not there.
func Exchanges(t *testing.T, specification string) []Exchange {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(specification, "vectors", "*.json"))
	if len(files) == 0 {
		t.Skip("the specification is not here")
	}
	var all []Exchange
	read := func(text []byte, err error) {
		var file struct{ Vectors []Exchange }
		if err == nil {
			err = json.Unmarshal(text, &file)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range file.Vectors {
			if x.Original != nil {
				x.Steps = x.Original
			}
			all = append(all, x)
		}
	}
	for _, file := range files {
		read(os.ReadFile(file))
	}
	recorded := all[:0]
	for _, x := range all {
		if x.Recorded {
			recorded = append(recorded, x)
		}
	}
	all = recorded
	read(derived, nil)
	return all
}

// play is one exchange that is played.
type play struct {
	t       *testing.T
	clients map[string]Client
	waiting map[string][]Message // calls without an answer, by client
	named   *strings.Replacer
	names   []string // pairs of a name in the recording, and what stands for it
	lines   []string
}

// Play plays an exchange to clients that open makes, of which each has sent its first ping. It
// returns what they have told, each line beginning with the client.
func Play(t *testing.T, x Exchange, open func(t *testing.T, id string) Client) []string {
	p := &play{t: t, clients: make(map[string]Client), waiting: make(map[string][]Message)}
	p.name("$ack1", "server-ack-1", "$n", "7", "$generated", "made-up", "$address", "h:1")
	var order []string
	for _, step := range x.Steps {
		switch {
		case step.Open != "":
			order = append(order, step.Open)
			p.clients[step.Open] = open(t, step.Open)
			if step.Registered {
				p.send(step.Open, fmt.Sprintf(`{"action":"ping","from":%q}`, step.Open))
				p.say(step.Open, fmt.Sprintf(`{"action":"pong","id":%q}`, step.Open))
			}
		case step.Send != nil:
			p.send(step.Client, compact(step.Send))
		case step.WaitS > 0:
			for _, id := range order {
				p.clients[id].Pass(time.Duration(step.WaitS * float64(time.Second)))
				p.told(id)
			}
		}
		for _, message := range step.Receives {
			p.receive(step.Client, compact(message))
		}
	}
	for _, id := range order {
		for _, m := range p.waiting[id] {
			p.note(id, "no answer to "+m.Action+" "+m.Topic+m.To)
		}
		p.goesOn(id)
	}
	return p.lines
}

func compact(text json.RawMessage) string {
	var b bytes.Buffer
	_ = json.Compact(&b, text)
	return b.String()
}

// name has something stand for a name in the recording.
func (p *play) name(pairs ...string) {
	p.names = append(p.names, pairs...)
	p.named = strings.NewReplacer(p.names...)
}

func (p *play) note(id, line string) { p.lines = append(p.lines, strings.TrimSpace(id+": "+line)) }

func (p *play) told(id string) {
	for _, line := range p.clients[id].Told() {
		p.note(id, line)
	}
}

func (p *play) receive(id, message string) {
	var special struct {
		Closed  json.RawMessage `json:"$closed"`
		NotJSON string          `json:"$not_json"`
	}
	_ = json.Unmarshal([]byte(message), &special)
	switch {
	case special.Closed != nil:
		code := 0
		_ = json.Unmarshal(special.Closed, &code)
		p.clients[id].End(code)
		p.told(id)
	case special.NotJSON != "":
		p.say(id, p.named.Replace(special.NotJSON))
	default:
		p.say(id, p.named.Replace(message))
	}
}

// say has the server send a text, and notes what comes of it.
func (p *play) say(id, text string) {
	c := p.clients[id]
	c.Say(text)
	answer := Read(text)
	for i, m := range p.waiting[id] {
		if m.isAnsweredBy(answer) {
			p.waiting[id] = append(p.waiting[id][:i:i], p.waiting[id][i+1:]...)
			p.note(id, c.Answer(m))
			break
		}
	}
	if answer.Action == "pong" && c.ID() != id {
		p.note(id, "is "+c.ID())
	}
	p.told(id)
}

func (m Message) isAnsweredBy(answer Message) bool {
	switch answer.Action {
	case "subscribed":
		return m.Action == "subscribe" && m.Topic == answer.Topic
	case "ack_response":
		return strings.HasSuffix(m.Action, "_with_ack") && m.AckID == answer.AckID
	case "ack_status":
		return m.Action == "get_ack_status" && m.AckID == answer.AckID
	}
	return false
}

// send has a client send what was sent, if it can.
func (p *play) send(id, recorded string) {
	recorded = p.named.Replace(recorded)
	m, c := Read(recorded), p.clients[id]
	if !c.Do(m) {
		return
	}
	sent := c.Sent(m)
	if strings.HasSuffix(m.Action, "_with_ack") {
		// The client gives the request a name of its own.
		own := Read(sent)
		p.name(`"`+m.AckID+`"`, `"`+own.AckID+`"`)
		recorded, m.AckID = p.named.Replace(recorded), own.AckID
	}
	if why := differs(recorded, sent, id); why != "" {
		p.t.Errorf("%s sent %s\nin place of %s: %s", id, sent, recorded, why)
	}
	switch m.Action {
	case "subscribe", "publish_with_ack", "publish_to_id_with_ack", "get_ack_status":
		p.waiting[id] = append(p.waiting[id], m)
	}
}

// differs tells which field of a recorded message a sent one does not have. It may have more.
func differs(recorded, sent, id string) string {
	wanted, got := values(recorded), values(sent)
	wanted["from"] = id // the original passes on what a client writes there
	for name, value := range wanted {
		if !reflect.DeepEqual(got[name], value) && !(value == nil && got[name] == nil) {
			return name
		}
	}
	return ""
}

func values(text string) map[string]any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var all map[string]any
	_ = decoder.Decode(&all)
	return all
}

// goesOn checks that the client is none the worse for it.
func (p *play) goesOn(id string) {
	c := p.clients[id]
	if c.IsOver() {
		return
	}
	m := Message{Action: "subscribe", Topic: "after"}
	if !c.Do(m) {
		p.t.Errorf("%s does not subscribe any more", id)
		return
	}
	c.Sent(m)
	c.Say(`{"action":"subscribed","topic":"after"}`)
	c.Answer(m)
	c.Say(`{"action":"publish","topic":"after","data":{"data":1,"from":"z"}}`)
	if told := c.Told(); !reflect.DeepEqual(told, []string{"after 1 from z"}) {
		p.t.Errorf("%s was told %q afterwards", id, told)
	}
}

// Outcomes tells of an ack request that has ended.
func Outcomes(outcomes []string) string {
	if len(outcomes) == 0 {
		return "ack: nobody"
	}
	return "ack: " + strings.Join(outcomes, ", ")
}

// Payload writes a payload in one manner, however it was written.
func Payload(value any) string {
	if text, ok := value.([]byte); ok {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if decoder.Decode(&value) != nil {
			return "unreadable"
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
	return strings.TrimSpace(b.String())
}
