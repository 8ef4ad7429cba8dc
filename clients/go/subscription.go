package kps

import (
	"context"
	"fmt"
	"iter"

	"kps.internal/kps/internal/core"
)

// SubscribeOption is something that a subscription wants besides messages.
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	key      core.Key
	wanted   core.Wanted
	start    core.Start
	observer func(*Presence)
	limit    int
	info     any
	hasInfo  bool
}

// AsPattern tells that the text is a pattern: "*" stands for any characters but "/", "**" for any
// characters, and each also for none. A pattern has a topic that begins with "__" only if it begins
// likewise, up to the topic's first "/".
func AsPattern(o *subscribeOptions) { o.key.IsPattern = true }

// Last has so many of the latest messages of the topic come first, if it has history. It is for the
// first subscription of a client that has the topic; later on there is [Client.History].
func Last(messages int) SubscribeOption {
	return func(o *subscribeOptions) { o.start.Last = int64(messages); o.wanted.Start = &o.start }
}

// Since has what was published behind a position come first. It is for the first subscription of a
// client to the topic, and for [Client.History].
func Since(position Position) SubscribeOption {
	return func(o *subscribeOptions) {
		o.start.Since = &core.Position{Epoch: position.Epoch, Offset: position.Offset}
		o.wanted.Start = &o.start
	}
}

// Group makes the subscription a member of a group of the topic or pattern: each message goes to
// one of the members. One with ack goes to the member that has the least to do, and to another one
// if that is gone before it has answered. A client is a member of a group once.
func Group(name string) SubscribeOption {
	return func(o *subscribeOptions) { o.key.Group = name }
}

// Concurrency is how many messages with ack a member of a group takes at a time, in as many
// goroutines. Without it, that is 1.
func Concurrency(messages int) SubscribeOption {
	return func(o *subscribeOptions) { o.wanted.Concurrency = messages }
}

// Info is what the client says about itself to those who look who is subscribed: an object, such as
// a struct. To change it, subscribe again with another one. It stays with the client's subscription
// to the topic.
func Info(info any) SubscribeOption {
	return func(o *subscribeOptions) { o.info, o.hasInfo = info, true }
}

// OnPresence has a function told who is subscribed to the topic, at first and after each change.
func OnPresence(observer func(*Presence)) SubscribeOption {
	return func(o *subscribeOptions) { o.observer = observer }
}

// Limit is how many messages [Client.History] returns at most. Without it, that is 100.
func Limit(messages int) SubscribeOption {
	return func(o *subscribeOptions) { o.limit = messages }
}

func readSubscribeOptions(topic string, given []SubscribeOption) (*subscribeOptions, error) {
	o := &subscribeOptions{key: core.Key{Topic: topic}}
	for _, option := range given {
		option(o)
	}
	if o.limit < 0 {
		return nil, &InvalidArgument{"a limit is a number of messages from 1"}
	}
	if !o.hasInfo {
		return o, nil
	}
	info, err := encode(o.info)
	if err != nil {
		return nil, err
	}
	if info[0] != '{' {
		return nil, &InvalidArgument{"info is an object"}
	}
	o.wanted.Info = info
	return o, nil
}

// Subscription is a subscription of the program. The client's subscriptions outlive its
// connections: it subscribes again by itself.
type Subscription struct{ mailbox *mailbox }

// Subscribe has a function called with each message on a topic, one at a time and in order. It
// waits until the server has confirmed that; without a connection it returns at once, and the
// client subscribes on the next one. ctx is for that wait, and not for the subscription, which goes
// on until [Subscription.Unsubscribe].
//
// While the function is slower than the messages, the client does not read, and the server learns
// of it; nothing is dropped here (but see [Limits.MailboxPatience]). The function may call the
// client.
//
// It takes [AsPattern], [Last], [Since], [Group], [Concurrency], [Info] and [OnPresence]. It fails
// with a *[ServerError] if the server refuses the topic, with [ErrRequestTimeout], an
// *[Unsupported], [ErrClientClosed] or an *[InvalidArgument].
func (c *Client) Subscribe(
	ctx context.Context, topic string, handle func(*Message), options ...SubscribeOption,
) (*Subscription, error) {
	return c.Handle(ctx, topic, func(_ context.Context, m *Message) (any, error) {
		handle(m)
		return nil, nil
	}, options...)
}

// Handle subscribes like Subscribe, with a handler whose result, or error, goes to publishers who
// want an ack.
func (c *Client) Handle(
	ctx context.Context, topic string, handler Handler, options ...SubscribeOption,
) (*Subscription, error) {
	if handler == nil {
		return nil, &InvalidArgument{"a subscription needs a handler"}
	}
	o, err := readSubscribeOptions(topic, options)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(c.context)
	m, err := c.subscribe(ctx, o, cancel, c.handled(life, handler))
	if err != nil {
		cancel()
		return nil, err
	}
	return &Subscription{m}, nil
}

// subscribe subscribes, and waits for the server's answer.
func (c *Client) subscribe(
	ctx context.Context, o *subscribeOptions, cancel context.CancelFunc,
	handle func(*mailbox, *core.Message),
) (*mailbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, ctx.Err()
	}
	if o.limit > 0 {
		return nil, &InvalidArgument{"Limit is for History"}
	}
	sub := &core.Subscription{Key: o.key, Observes: o.observer != nil}
	c.mu.Lock()
	m := c.newMailbox(sub, max(1, o.wanted.Concurrency), handle)
	m.observer, m.cancel = o.observer, cancel
	err := c.session.Subscribe(sub, &o.wanted, true, c.now())
	c.settle()
	c.mu.Unlock()
	if err != nil {
		return nil, public(err)
	}
	if err := c.confirmed(ctx, m); err != nil {
		m.end()
		return nil, err
	}
	return m, nil
}

func (c *Client) confirmed(ctx context.Context, m *mailbox) error {
	timely, cancel := context.WithTimeoutCause(ctx, c.settings.RequestTimeout,
		fmt.Errorf("%w to the subscription to %q", ErrRequestTimeout, m.core.Key.Topic))
	defer cancel()
	return c.until(timely, &m.changed, func() (bool, error) {
		if !c.session.IsSettled(m.core) {
			return false, nil
		}
		c.session.StopAwaiting(m.core)
		if m.core.Err != nil {
			return true, public(m.core.Err)
		}
		if c.session.IsOver() != nil {
			return true, c.endError()
		}
		return true, nil
	})
}

// end ends a subscription, as often as it is called.
func (m *mailbox) end() {
	m.over.Store(true)
	m.cancel() // the context of its handler, after which none may begin
	c := m.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.StopAwaiting(m.core)
	c.session.Unsubscribe(m.core, c.now())
	c.settle()
}

// Unsubscribe ends the subscription. No call of its handler begins any more; messages that wait are
// dropped, and their publishers told so. It may be called twice, and from the handler.
func (s *Subscription) Unsubscribe() { s.mailbox.end() }

// Topic is the topic, or the text of the pattern.
func (s *Subscription) Topic() string { return s.mailbox.core.Key.Topic }

// Dropped counts the messages that were dropped because the program was too slow.
func (s *Subscription) Dropped() int {
	s.mailbox.client.mu.Lock()
	defer s.mailbox.client.mu.Unlock()
	return s.mailbox.core.Dropped
}

// Err returns why the server has ended the subscription; nil if it has not.
func (s *Subscription) Err() error {
	s.mailbox.client.mu.Lock()
	defer s.mailbox.client.mu.Unlock()
	return public(s.mailbox.core.Err)
}

// Unsubscribe ends all subscriptions to a topic, or with [AsPattern] to a pattern, those as a member
// of a group included. Loops over their messages end.
func (c *Client) Unsubscribe(topic string, options ...SubscribeOption) {
	o := &subscribeOptions{key: core.Key{Topic: topic}}
	for _, option := range options {
		option(o)
	}
	c.mu.Lock()
	subs := c.session.Subscriptions(topic, o.key.IsPattern)
	c.mu.Unlock()
	for _, sub := range subs {
		sub.Owner.(*mailbox).end()
	}
}

// Messages subscribes to a topic, and yields its messages. Leaving the loop unsubscribes.
//
//	for m, err := range client.Messages(ctx, "orders") {
//		if err != nil {
//			return err
//		}
//		fmt.Println(m.Topic, string(m.Data))
//	}
//
// The loop ends when ctx ends, with its error; when the server refuses the subscription, or the
// client ends, with that error; and without one after [Client.Close] or [Client.Unsubscribe]. A
// message counts as handled when the loop asks for the next one, or is left: see [Message.Reply].
// It takes and returns what [Client.Subscribe] does.
func (c *Client) Messages(
	ctx context.Context, topic string, options ...SubscribeOption,
) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		o, err := readSubscribeOptions(topic, options)
		var m *mailbox
		if err == nil {
			m, err = c.subscribe(ctx, o, func() {}, nil)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		defer m.end()
		for {
			message, err := m.next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if message == nil || !m.give(message, yield) {
				return
			}
		}
	}
}

// next waits for the next message; nil: there is none any more.
func (m *mailbox) next(ctx context.Context) (message *Message, err error) {
	c := m.client
	err = c.until(ctx, &m.changed, func() (bool, error) {
		if err := ctx.Err(); err != nil {
			return true, ctx.Err()
		}
		var room [1]core.Message
		if taken := c.session.Take(room[:0], m.core, 1); len(taken) == 1 && !m.isOver() {
			m.core.Begun.Add(1)
			c.settle()
			message = newMessage(&taken[0])
			return true, nil
		}
		if m.core.Err != nil {
			return true, public(m.core.Err)
		}
		if m.over.Load() || c.session.IsOver() != nil {
			err := c.endError()
			if m.over.Load() || err == ErrClientClosed {
				err = nil
			}
			return true, err
		}
		return false, nil
	})
	return message, err
}

// give gives a message to a loop, and notes that it is handled.
func (m *mailbox) give(message *Message, yield func(*Message, error) bool) (goesOn bool) {
	outcome := core.Outcome{Failed: true, Error: "the loop over the messages panicked"}
	defer func() { m.client.settleMessage(message.ack, outcome) }()
	goesOn = yield(message, nil)
	outcome = message.outcome
	return goesOn
}
