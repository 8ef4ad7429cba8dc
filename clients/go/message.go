package kps

import (
	"context"
	"encoding/json"
	"fmt"

	"kps.internal/kps/internal/core"
)

// Handler handles a message. What it returns is what a publisher who wants an ack is told: a
// result, which is anything that [Client.Publish] takes as a payload, or an error. Others are told
// nothing, and the error goes to [Options.OnError].
//
// ctx ends when the program ends the subscription, and when the client ends.
type Handler func(ctx context.Context, m *Message) (result any, err error)

// Message is a message for the program.
type Message struct {
	// Topic is the topic; empty for a direct message.
	Topic string
	// From is the id of the client that has sent it.
	From string
	// Data is the payload, as its publisher wrote it. Several subscriptions share it: do not
	// change it.
	Data json.RawMessage
	// Headers are the texts that were sent with it; nil if there are none.
	Headers map[string]string
	// Position is its place in the history of its topic; the zero value if that has none.
	Position Position
	// Attempt counts the members of a group that were asked to handle it, with this one. Above 1
	// it may have been handled before, in part or wholly.
	Attempt int

	ack     *core.Acknowledgement
	outcome core.Outcome
}

// Position is a place in the history of a topic: behind the message with this offset. It may be
// kept, and used by another program.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset int64  `json:"offset"`
}

// Decode reads the payload into v, as [json.Unmarshal] does.
func (m *Message) Decode(v any) error { return json.Unmarshal(m.Data, v) }

// WantsAck tells whether the publisher wants to know what becomes of the message.
func (m *Message) WantsAck() bool { return m.ack != nil }

// Reply gives the result for a publisher who wants an ack, where nothing is returned: in a loop
// over [Client.Messages], and in a function for [Client.Subscribe]. It goes out once the message
// has been handled.
func (m *Message) Reply(result any) error {
	written, err := encode(result)
	if err != nil {
		return err
	}
	m.outcome = core.Outcome{}
	if string(written) != "null" {
		m.outcome.Result = written
	}
	return nil
}

// Fail tells a publisher who wants an ack, in the same places, that handling the message failed.
func (m *Message) Fail(reason string) {
	m.outcome = core.Outcome{Failed: true, Error: reason}
}

// String returns the topic, the sender and the payload, cut off if that is long.
func (m *Message) String() string {
	data := string(m.Data)
	if len(data) > 200 {
		data = data[:200] + "…"
	}
	return fmt.Sprintf("%s from %s: %s", m.Topic, m.From, data)
}

func newMessage(m *core.Message) *Message {
	given := &Message{
		Topic:    m.Topic,
		From:     m.From,
		Data:     m.Data,
		Position: Position{m.Epoch, m.Offset},
		Attempt:  m.Attempt,
		ack:      m.Ack,
	}
	if m.Offset == 0 {
		given.Position = Position{}
	}
	if m.Headers != nil {
		given.Headers = headersOf(m.Headers)
	}
	return given
}

// headersOf reads headers; what is no text counts as missing.
func headersOf(object json.RawMessage) map[string]string {
	var values map[string]any
	if json.Unmarshal(object, &values) != nil {
		return nil
	}
	headers := make(map[string]string, len(values))
	for name, value := range values {
		if text, ok := value.(string); ok {
			headers[name] = text
		}
	}
	return headers
}
