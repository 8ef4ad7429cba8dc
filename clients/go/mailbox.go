package kps

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"kps.internal/kps/internal/core"
)

// mailbox is what waits for a function of the program, or for a loop.
type mailbox struct {
	client      *Client
	core        *core.Subscription
	concurrency int
	handle      func(*mailbox, *core.Message) // nil: a loop takes the messages
	cancel      context.CancelFunc            // ends the context of the handler
	observer    func(*Presence)
	over        atomic.Bool // the program has ended it

	// room is for the messages that are being handled, if that is done one at a time. It belongs to the
	// goroutine that does so.
	room []core.Message

	// With the lock:
	working int  // goroutines that handle messages
	changed news // a message has come, or the server has answered, or it has ended
}

// newMailbox takes what waits for a subscription of the core. The caller has the lock.
func (c *Client) newMailbox(
	sub *core.Subscription, concurrency int, handle func(*mailbox, *core.Message),
) *mailbox {
	m := &mailbox{client: c, core: sub, concurrency: concurrency, handle: handle}
	sub.Owner = m
	sub.Changed = func() {
		m.changed.tell()
		m.work()
	}
	return m
}

// work begins another goroutine if there is work for it. The caller has the lock.
func (m *mailbox) work() {
	if m.handle != nil && m.working < m.concurrency && m.core.Waiting() > 0 {
		m.working++
		go m.loop()
	}
}

const atOnce = 32 // messages that a handler gets without taking the lock

// loop handles messages until there are none.
func (m *mailbox) loop() {
	m.client.awaitWelcome(m)
	most, room := atOnce, m.room
	if m.concurrency > 1 {
		most, room = 1, nil
	}
	for {
		taken := m.take(room[:0], most)
		if len(taken) == 0 {
			return
		}
		if room = taken; most > 1 {
			m.room = room
		}
		for i := range taken {
			m.core.Begun.Add(1)
			if m.isOver() {
				m.client.settleMessage(taken[i].Ack, core.Unbegun)
			} else {
				m.handle(m, &taken[i])
			}
			taken[i] = core.Message{}
		}
	}
}

// awaitWelcome waits until OnConnect has returned.
func (c *Client) awaitWelcome(m *mailbox) {
	if c.settings.OnConnect == nil || m == c.notices {
		return
	}
	c.mu.Lock()
	welcomed := c.welcomed
	c.mu.Unlock()
	select {
	case <-welcomed:
	case <-c.context.Done():
	}
}

// take takes messages for one of the goroutines, which ends if there are none.
func (m *mailbox) take(dst []core.Message, most int) []core.Message {
	c := m.client
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.session.Take(dst, m.core, most)
	if len(taken) == 0 {
		m.working--
		return nil
	}
	m.work()
	c.settle()
	return taken
}

// isOver tells whether no handler may begin. What the program is told besides messages goes on
// until all is told.
func (m *mailbox) isOver() bool {
	return m.over.Load() || m.client.closing.Load() && m != m.client.notices
}

func (c *Client) settleMessage(ack *core.Acknowledgement, outcome core.Outcome) {
	if ack == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.Settle(ack, outcome, c.now())
	c.settle()
}

// handled returns what a mailbox does with a message for a handler.
func (c *Client) handled(ctx context.Context, handler Handler) func(*mailbox, *core.Message) {
	return func(m *mailbox, message *core.Message) {
		given := newMessage(message)
		result, err := c.call(ctx, handler, given)
		c.finish(given, result, err)
	}
}

// call calls a handler. That it panics must not end the program, and not be overlooked either.
func (c *Client) call(ctx context.Context, handler Handler, m *Message) (result any, err error) {
	defer func() {
		if failure := recover(); failure != nil {
			err = fmt.Errorf("panic: %v", failure)
			c.logPanic(m.Topic, failure)
		}
	}()
	return handler(ctx, m)
}

// guard calls a function of the program in the same way.
func (c *Client) guard(call func()) {
	defer func() {
		if failure := recover(); failure != nil {
			c.logPanic("", failure)
		}
	}()
	call()
}

func (c *Client) logPanic(topic string, failure any) {
	c.settings.Logger.Error("kps: a handler panicked", "topic", topic, "panic", failure,
		"stack", string(debug.Stack()))
}

// finish notes what became of a message.
func (c *Client) finish(m *Message, result any, err error) {
	if m.ack == nil {
		if err != nil {
			c.mu.Lock()
			c.report(&HandlerFailed{m.Topic, err})
			c.mu.Unlock()
		}
		return
	}
	outcome := m.outcome
	switch {
	case err != nil:
		outcome = core.Outcome{Failed: true, Error: err.Error()}
	case result != nil:
		written, err := encode(result)
		if err != nil {
			outcome = core.Outcome{Failed: true, Error: "the result of the callback cannot be sent: " + reasonOf(err)}
			break
		}
		if string(written) != "null" {
			outcome = core.Outcome{Result: written}
		}
	}
	c.settleMessage(m.ack, outcome)
	m.ack = nil
}

func reasonOf(err error) string {
	var invalid *InvalidArgument
	if errors.As(err, &invalid) {
		return invalid.Reason
	}
	return err.Error()
}
