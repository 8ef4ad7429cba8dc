package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"kps.internal/kps"
)

// payload is what every benchmark publishes: 66 bytes of JSON.
type payload struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

var (
	sample  = payload{1234567, strings.Repeat("x", 43)}
	encoded = json.RawMessage(`{"n":1234567,"text":"` + sample.Text + `"}`)
)

const patience = 30 * time.Second

// client is a client library. Each of its functions does a whole thing: the payload is encoded, or
// decoded and looked at, unless the client is one for raw payloads.
type client interface {
	subscribe(topic string, got func()) error
	publish(topic string) error
	flush() error
	// answer answers with the number in the payload.
	answer(topic string) error
	ask(topic string) error
	// confirm publishes, and waits until the server has handled it.
	confirm(topic string) error
}

// connect makes a client of a library: "kps" or "nats", with "-raw" for payloads that are JSON
// already and remain so, and "kps-ack" for one that asks with a publication that is acknowledged.
func connect(library, address string) (client, error) {
	name, variant, _ := strings.Cut(library, "-")
	switch name {
	case "kps":
		c, err := kps.Connect(context.Background(), address, &kps.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		return &kpsClient{c, variant == "raw", variant == "ack"}, err
	case "nats":
		c, err := nats.Connect("nats://" + address)
		return &natsClient{c, variant == "raw"}, err
	}
	return nil, fmt.Errorf("there is no library %q", library)
}

// look decodes a payload, unless it is raw.
func look(data []byte, isRaw bool) {
	if isRaw {
		return
	}
	var read payload
	if err := json.Unmarshal(data, &read); err != nil || read.N != sample.N {
		panic(fmt.Sprintf("%q has come", data))
	}
}

// check looks at the answer to a request.
func check(data []byte, err error) error {
	var number int
	if err == nil {
		err = json.Unmarshal(data, &number)
	}
	if err == nil && number != sample.N {
		err = fmt.Errorf("%q is the answer", data)
	}
	return err
}

type kpsClient struct {
	*kps.Client
	isRaw, acks bool
}

var background = context.Background()

func (c *kpsClient) data() any {
	if c.isRaw {
		return encoded
	}
	return &sample
}

func (c *kpsClient) subscribe(topic string, got func()) error {
	_, err := c.Subscribe(background, topic, func(m *kps.Message) {
		look(m.Data, c.isRaw)
		got()
	})
	return err
}

func (c *kpsClient) publish(topic string) error { return c.Publish(background, topic, c.data()) }

func (c *kpsClient) flush() error { return c.Flush(background) }

func (c *kpsClient) answer(topic string) error {
	_, err := c.Handle(background, topic, func(_ context.Context, m *kps.Message) (any, error) {
		var read payload
		err := m.Decode(&read)
		return read.N, err
	})
	return err
}

func (c *kpsClient) ask(topic string) error {
	if !c.acks {
		return check(c.Request(background, topic, c.data()))
	}
	ack, err := c.PublishWithAck(background, topic, c.data())
	if err != nil {
		return err
	}
	responses, err := ack.Wait(background)
	if err == nil && len(responses) != 1 {
		err = errors.New("not one has answered")
	}
	for _, r := range responses {
		err = check(r.Result, err)
	}
	return err
}

func (c *kpsClient) confirm(topic string) error {
	_, err := c.PublishWithReceipt(background, topic, c.data())
	return err
}

type natsClient struct {
	*nats.Conn
	isRaw bool
}

func (c *natsClient) data() []byte {
	if c.isRaw {
		return encoded
	}
	data, err := json.Marshal(&sample)
	if err != nil {
		panic(err)
	}
	return data
}

func (c *natsClient) subscribe(topic string, got func()) error {
	_, err := c.Subscribe(topic, func(m *nats.Msg) {
		look(m.Data, c.isRaw)
		got()
	})
	if err == nil {
		err = c.Flush()
	}
	return err
}

func (c *natsClient) publish(topic string) error { return c.Publish(topic, c.data()) }

func (c *natsClient) flush() error { return c.Flush() }

func (c *natsClient) answer(topic string) error {
	_, err := c.Subscribe(topic, func(m *nats.Msg) {
		var read payload
		answer, err := []byte(nil), json.Unmarshal(m.Data, &read)
		if err == nil {
			answer, err = json.Marshal(read.N)
		}
		if err == nil {
			err = m.Respond(answer)
		}
		if err != nil {
			panic(err)
		}
	})
	if err == nil {
		err = c.Flush()
	}
	return err
}

func (c *natsClient) ask(topic string) error {
	m, err := c.Request(topic, c.data(), patience)
	if err != nil {
		return err
	}
	return check(m.Data, nil)
}

func (c *natsClient) confirm(topic string) error {
	if err := c.Publish(topic, c.data()); err != nil {
		return err
	}
	return c.Flush()
}
