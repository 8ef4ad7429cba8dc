package testbus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"

	"kps.internal/kps/internal/core"
)

// Pong is the first answer to a client: one of level 2 with all features.
func Pong(id string) string {
	return fmt.Sprintf(`{"action":"pong","id":%q,"proto":2,"limits":{"max_message":1048576,"heartbeat":25},`+
		`"features":["patterns","history","expect","presence","groups","headers","message_ids"],`+
		`"message_ids":{"window":"w","seconds":120,"most":10000,"time":1000}}`, id)
}

// Bus passes messages on: publications, direct messages and ack requests, to topics and patterns.
// It has no history, presence and groups.
type Bus struct {
	mu      sync.Mutex
	clients map[string]*client
	acks    map[string]*ack
	count   int
}

type client struct {
	*Conn
	id   string
	keys map[core.Key]bool
}

// ack is an ack request that is under way.
type ack struct {
	publisher *client
	id        string
	missing   map[string]bool
}

type message struct {
	Action   string            `json:"action"`
	Topic    string            `json:"topic,omitempty"`
	Pattern  string            `json:"pattern,omitempty"`
	From     string            `json:"from,omitempty"`
	To       string            `json:"to,omitempty"`
	AckID    string            `json:"ack_id,omitempty"`
	Nonce    string            `json:"nonce,omitempty"`
	Receipt  string            `json:"receipt,omitempty"`
	Request  string            `json:"request,omitempty"`
	Error    string            `json:"error,omitempty"`
	Code     string            `json:"code,omitempty"`
	Success  *bool             `json:"success,omitempty"`
	Data     json.RawMessage   `json:"data,omitempty"`
	Result   json.RawMessage   `json:"result,omitempty"`
	Batch    []json.RawMessage `json:"batch,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Expect   []string          `json:"expect,omitempty"`
	Complete *bool             `json:"complete,omitempty"`

	Delivered *int                `json:"delivered,omitempty"`
	Responses map[string]*message `json:"responses,omitempty"`
	Status    map[string]bool     `json:"status,omitempty"`
}

// New returns a bus.
func New() *Bus {
	return &Bus{clients: make(map[string]*client), acks: make(map[string]*ack)}
}

// Listen serves on a port that the system picks, until the listener is closed.
func (b *Bus) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.Serve(conn)
		}
	}()
	return l, nil
}

// Serve serves one connection until it ends.
func (b *Bus) Serve(conn net.Conn) {
	defer conn.Close()
	c, err := Accept(conn, http.StatusSwitchingProtocols)
	if err != nil {
		return
	}
	one := &client{Conn: c, keys: make(map[core.Key]bool)}
	defer b.leave(one)
	for {
		text, err := c.Read()
		if err != nil {
			return
		}
		var messages []message
		if bytes.HasPrefix(text, []byte("[")) {
			err = json.Unmarshal(text, &messages)
		} else {
			messages = make([]message, 1)
			err = json.Unmarshal(text, &messages[0])
		}
		if err != nil {
			return
		}
		for i := range messages {
			b.handle(one, &messages[i])
		}
	}
}

func (b *Bus) leave(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clients[c.id] == c {
		delete(b.clients, c.id)
	}
	no := false
	for id, a := range b.acks {
		if a.missing[c.id] {
			b.answered(id, c.id, &message{Success: &no, Error: "disconnected"})
		}
	}
}

func (b *Bus) handle(c *client, m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := core.Key{Topic: m.Topic}
	if m.Pattern != "" {
		key = core.Key{Topic: m.Pattern, IsPattern: true}
	}
	switch m.Action {
	case "ping":
		if c.id == "" {
			c.id = m.From
			b.clients[c.id] = c
			_ = c.Say(Pong(c.id))
			return
		}
		_ = c.Say(message{Action: "pong", Nonce: m.Nonce})
	case "subscribe":
		c.keys[key] = true
		_ = c.Say(message{Action: "subscribed", Topic: m.Topic, Pattern: m.Pattern})
	case "unsubscribe":
		delete(c.keys, key)
		_ = c.Say(message{Action: "unsubscribed", Topic: m.Topic, Pattern: m.Pattern})
	case "publish":
		receivers := b.receivers(m.Topic)
		for _, to := range receivers {
			_ = to.Say(message{Action: "publish", Topic: m.Topic, From: c.id, Data: m.Data, Batch: m.Batch, Headers: m.Headers})
		}
		if m.Receipt != "" {
			count := len(receivers)
			_ = c.Say(message{Action: "published", Topic: m.Topic, Receipt: m.Receipt, Delivered: &count})
		}
	case "direct_message":
		if to := b.clients[m.To]; to != nil {
			_ = to.Say(message{Action: "direct_message", From: c.id, Data: m.Data, Headers: m.Headers})
			return
		}
		_ = c.Say(message{Action: "error", Error: "no client has the id " + m.To, Code: "no_such_client",
			Request: m.Action, To: m.To})
	case "publish_with_ack":
		b.ask(c, m, b.receivers(m.Topic))
	case "publish_to_id_with_ack":
		var receivers []*client
		if to := b.clients[m.To]; to != nil {
			receivers = append(receivers, to)
		}
		b.ask(c, m, receivers)
	case "ack":
		b.answered(m.AckID, c.id, &message{Success: m.Success, Error: m.Error, Result: m.Result})
	case "get_ack_status":
		status := map[string]bool{}
		for _, a := range b.acks {
			if a.publisher == c && a.id == m.AckID {
				for id, isMissing := range a.missing {
					status[id] = !isMissing
				}
			}
		}
		_ = c.Say(message{Action: "ack_status", AckID: m.AckID, Status: status})
	case "cancel_ack":
		for id, a := range b.acks {
			if a.publisher == c && a.id == m.AckID {
				delete(b.acks, id)
			}
		}
	}
}

func (b *Bus) receivers(topic string) []*client {
	var found []*client
	for _, c := range b.clients {
		for key := range c.keys {
			if key.Topic == topic && !key.IsPattern || key.IsPattern && core.Matches(key.Topic, topic) {
				found = append(found, c)
				break
			}
		}
	}
	return found
}

func (b *Bus) ask(c *client, m *message, receivers []*client) {
	b.count++
	id := fmt.Sprintf("ack_%d", b.count)
	a := &ack{publisher: c, id: m.AckID, missing: make(map[string]bool)}
	no, yes := false, true
	for _, expected := range m.Expect {
		a.missing[expected] = true
	}
	for _, to := range receivers {
		a.missing[to.id] = true
	}
	if len(a.missing) == 0 {
		_ = c.Say(message{Action: "ack_response", AckID: m.AckID, Complete: &yes})
		return
	}
	b.acks[id] = a
	for _, to := range receivers {
		_ = to.Say(message{Action: "publish_ack", AckID: id, Topic: m.Topic, From: c.id, Data: m.Data, Headers: m.Headers})
	}
	for _, expected := range m.Expect {
		if b.clients[expected] == nil {
			b.answered(id, expected, &message{Success: &no, Error: "absent"})
		}
	}
}

func (b *Bus) answered(id, from string, outcome *message) {
	a := b.acks[id]
	if a == nil || !a.missing[from] {
		return
	}
	a.missing[from] = false
	m := message{Action: "ack_update", AckID: a.id, Responses: map[string]*message{from: outcome}}
	isDone := true
	for _, isMissing := range a.missing {
		isDone = isDone && !isMissing
	}
	if isDone {
		delete(b.acks, id)
		m.Action, m.Complete = "ack_response", &isDone
	}
	_ = a.publisher.Say(m)
}
