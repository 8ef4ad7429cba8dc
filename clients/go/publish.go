package kps

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kps.internal/kps/internal/core"
)

// PublishOption is something that goes with a message. A call refuses options that it has no use
// for, with an *[InvalidArgument].
type PublishOption func(*publishOptions)

type publishOptions struct {
	given   options
	headers map[string]string
	request core.Request
}

// options is a set of options.
type options int

const (
	withHeaders options = 1 << iota
	withMessageID
	withTimeout
	withKey
	withRetry
	withExpect
)

var optionNames = []string{"Headers", "MessageID", "Timeout", "Key", "Retry", "Expect"}

// Headers are texts that go beside the payload, such as a traceparent. A server that does not know
// them is an *[Unsupported].
func Headers(headers map[string]string) PublishOption {
	return func(o *publishOptions) { o.given |= withHeaders; o.headers = headers }
}

// MessageID is an id that no other message of this client id has. The server handles such a message
// once, however often it is sent. If the connection ends before the answer, the client sends it
// again as soon as it is connected again, and goes on waiting; only if the message might then be
// handled twice does the call end with a *[ConnectionLost], as without an id.
func MessageID(id string) PublishOption {
	return func(o *publishOptions) { o.given |= withMessageID; o.request.MessageID = id }
}

// Timeout is how long the receivers have to answer. Without it they have until the context of the
// call ends, or 5 s if that does not end.
func Timeout(timeout time.Duration) PublishOption {
	return func(o *publishOptions) { o.given |= withTimeout; o.request.Timeout = timeout }
}

// Key has each group give all messages with the same key to the same member, as long as its members
// are the same.
func Key(key string) PublishOption {
	return func(o *publishOptions) { o.given |= withKey; o.request.Key = key }
}

// Retry is how often members of a group may fail before the failure is final.
func Retry(times int) PublishOption {
	return func(o *publishOptions) { o.given |= withRetry; o.request.Retry = times }
}

// Expect names ids that must be among the receivers: who is not has the outcome "absent".
func Expect(ids ...string) PublishOption {
	return func(o *publishOptions) {
		o.given |= withExpect
		o.request.Expect = append(o.request.Expect, ids...)
	}
}

// ExpectGroups names groups of the topic that must have members: one that has none has the outcome
// "no member".
func ExpectGroups(groups ...string) PublishOption {
	return func(o *publishOptions) {
		o.given |= withExpect
		o.request.ExpectGroups = append(o.request.ExpectGroups, groups...)
	}
}

// readOptions reads the options of a call, which knows some.
func readOptions(target string, data any, known options, given []PublishOption) (*publishOptions, error) {
	o := &publishOptions{}
	for _, option := range given {
		option(o)
	}
	for i, name := range optionNames {
		if o.given&^known&(1<<i) != 0 {
			return nil, &InvalidArgument{name + " is not for this call"}
		}
	}
	if o.given&withMessageID != 0 && o.request.MessageID == "" {
		return nil, &InvalidArgument{"a message id is a text that is not empty"}
	}
	if o.given&withTimeout != 0 && o.request.Timeout <= 0 {
		return nil, &InvalidArgument{"a timeout is above 0"}
	}
	r := &o.request
	r.Target = target
	var err error
	if r.Headers, err = encodeHeaders(o.headers); err != nil {
		return nil, err
	}
	r.Data, err = encode(data)
	return o, err
}

const defaultTimeout = 5 * time.Second

// setTimeout gives the receivers a time, if the program has not.
func (o *publishOptions) setTimeout(ctx context.Context) {
	if o.request.Timeout > 0 {
		return
	}
	o.request.Timeout = defaultTimeout
	if due, ok := ctx.Deadline(); ok {
		o.request.Timeout = max(time.Millisecond, time.Until(due))
	}
}

// Publish publishes a payload to all subscribers of a topic. The payload is anything that
// [json.Marshal] can write; a [json.RawMessage] is sent as it is.
//
// Publish queues the message, and returns at once unless the network is slower than the program:
// while more than 1 MiB waits, it waits too, and if ctx ends meanwhile, the message is not sent.
// Delivery is at most once: a message may be lost with the connection. What waits when the client
// writes leaves together, so there is no need to gather messages.
//
// It takes [Headers]. It fails with [ErrNotConnected] without a connection (unless
// [Options.OfflineQueue] says otherwise), [ErrClientClosed], [ErrQueueFull], an
// *[InvalidArgument] or a *[MessageTooLarge].
func (c *Client) Publish(ctx context.Context, topic string, data any, options ...PublishOption) error {
	if len(options) > 0 {
		return c.send(ctx, core.ToTopic, topic, data, options)
	}
	w := borrow()
	defer w.giveBack()
	payload, err := w.encode(data)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.haveRoom(ctx); err != nil {
		return err
	}
	if err := c.session.Publish(topic, payload); err != nil {
		return public(err)
	}
	c.wakeWriter()
	return nil
}

// PublishToID sends a direct message to the client, or server, of an id, whose
// [Options.OnDirect] gets it. That nobody has the id is told to [Options.OnError] as a
// *[ServerError] with the code "no_such_client". It takes and returns what Publish does.
func (c *Client) PublishToID(ctx context.Context, id string, data any, options ...PublishOption) error {
	return c.send(ctx, core.ToID, id, data, options)
}

// PublishToServer has the server send a message to another server: address is host:port, and maybe
// a path and, behind "::", the address of a server behind that. If the payload is an object with a
// member "topic", that server publishes its member "data" there. secure tells whether to use TLS.
// That it failed is told to [Options.OnError].
func (c *Client) PublishToServer(ctx context.Context, address string, data any, secure bool) error {
	return c.send(ctx, core.ToServer, address, data, nil, secure)
}

func (c *Client) send(
	ctx context.Context, kind core.PublicationKind, target string, data any,
	given []PublishOption, secure ...bool,
) error {
	o, err := readOptions(target, data, withHeaders, given)
	if err != nil {
		return err
	}
	p := &core.Publication{Kind: kind, Target: target, Data: o.request.Data, Headers: o.request.Headers}
	p.Secure = len(secure) > 0 && secure[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.haveRoom(ctx); err != nil {
		return err
	}
	if err := c.session.Send(p); err != nil {
		return public(err)
	}
	c.wakeWriter()
	return nil
}

// haveRoom waits while the network is slower than the program. The caller has the lock, which is
// free meanwhile.
func (c *Client) haveRoom(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return ctx.Err()
	}
	for c.session.Waiting() > highWater && c.session.IsReady() {
		c.session.WantsRoom++
		told := c.room.wait()
		c.mu.Unlock()
		var err error
		select {
		case <-told:
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		c.session.WantsRoom--
		if err != nil {
			return err
		}
	}
	return nil
}

// PublishWithReceipt publishes, waits until the server has passed the message on, and returns to
// how many subscribers: those whose queues at the server had room. Only
// [Client.PublishWithAck] tells whether they handled it. The number is -1 from a server on level 1,
// which does not tell.
//
// It takes [Headers] and [MessageID]. It fails as Publish does, always without a connection, with a
// *[ServerError] if the server refuses the message, with [ErrRequestTimeout], and with a
// *[ConnectionLost].
func (c *Client) PublishWithReceipt(
	ctx context.Context, topic string, data any, options ...PublishOption,
) (int, error) {
	o, err := readOptions(topic, data, withHeaders|withMessageID, options)
	if err != nil {
		return 0, err
	}
	q, err := c.ask(ctx, func(changed func()) (*core.Question, *core.Error) {
		return c.session.PublishWithReceipt(&o.request, c.now(), changed)
	})
	if err != nil {
		return 0, err
	}
	return int(q.Delivered), nil
}

// Flush waits until the server has handled everything that was sent before. It fails with
// [ErrNotConnected], [ErrRequestTimeout] or a *[ConnectionLost].
func (c *Client) Flush(ctx context.Context) error {
	_, err := c.ask(ctx, func(changed func()) (*core.Question, *core.Error) {
		return c.session.Flush(c.now(), changed)
	})
	return err
}

// ask asks the server something, and waits for the answer.
func (c *Client) ask(
	ctx context.Context, send func(changed func()) (*core.Question, *core.Error),
) (*core.Question, error) {
	told := make(chan struct{})
	c.mu.Lock()
	if err := c.haveRoom(ctx); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	q, failure := send(func() { close(told) })
	c.settle()
	c.mu.Unlock()
	if failure != nil {
		return nil, public(failure)
	}
	timer := time.NewTimer(c.settings.RequestTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-told:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("%w from the server", ErrRequestTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.Done {
		return q, public(q.Err)
	}
	c.session.Forget(q)
	return nil, err
}

// decode is what results and answers share.
func decode(raw json.RawMessage, v any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}
