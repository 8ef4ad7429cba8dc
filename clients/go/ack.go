package kps

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"kps.internal/kps/internal/core"
)

// AckResponse is what became of a message at one receiver, or at one group of them.
type AckResponse struct {
	// ID is the id of the client; of a group, of the member that had the message last.
	ID string
	// Success tells that it has handled the message without an error.
	Success bool
	// Error is what its handler has returned, or "disconnected", "timeout", "queue full",
	// "unsubscribed", "no subscriber for topic", "absent"; of a group also "no member" and "busy".
	Error string
	// Result is what its handler has returned; nil if that is nothing. Level 1 has no results.
	Result json.RawMessage

	// Group is the name of the group; empty for a client. The others belong to it.
	Group          string
	Topic, Pattern string
	Attempts       int // members that had the message
	Failures       []AckFailure
}

// AckFailure is an attempt of a member of a group that was not the last one.
type AckFailure struct{ Member, Error string }

// Name is by what name [Ack.Wait] has it: the id, or "GROUP of TOPIC".
func (r *AckResponse) Name() string {
	if r.Group != "" {
		return r.Group + " of " + r.Topic + r.Pattern
	}
	return r.ID
}

// Decode reads the result into v, which stays as it is if there is none.
func (r *AckResponse) Decode(v any) error { return decode(r.Result, v) }

func responseOf(o *core.AckOutcome) *AckResponse {
	r := &AckResponse{ID: o.ID, Success: o.Success, Error: o.Error, Result: o.Result,
		Group: o.Key.Group, Attempts: o.Attempts}
	if o.Key.IsPattern {
		r.Pattern = o.Key.Topic
	} else {
		r.Topic = o.Key.Topic
	}
	for _, failure := range o.Failures {
		r.Failures = append(r.Failures, AckFailure{failure[0], failure[1]})
	}
	return r
}

// Ack is what becomes of a message at each of its receivers. It is gathered from the moment of
// publishing, whether or not the program waits.
type Ack struct {
	client   *Client
	question *core.Question
	changed  news
}

// PublishWithAck publishes, and gathers what becomes of the message at each subscriber of the topic,
// and each group. It returns when the message is queued.
//
// It takes [Timeout], [Headers], [MessageID], [Key], [Retry], [Expect] and [ExpectGroups]. It fails
// as [Client.Publish] does, always without a connection, and with an *[Unsupported]; what comes
// later is returned by the methods of the ack.
func (c *Client) PublishWithAck(
	ctx context.Context, topic string, data any, options ...PublishOption,
) (*Ack, error) {
	const known = withTimeout | withHeaders | withMessageID | withKey | withRetry | withExpect
	return c.publishWithAck(ctx, topic, data, false, known, options)
}

// PublishToIDWithAck sends a direct message to the client, or server, of an id, likewise. If nobody
// has it, there is no response. It takes [Timeout], [Headers] and [MessageID].
func (c *Client) PublishToIDWithAck(
	ctx context.Context, id string, data any, options ...PublishOption,
) (*Ack, error) {
	return c.publishWithAck(ctx, id, data, true, withTimeout|withHeaders|withMessageID, options)
}

func (c *Client) publishWithAck(
	ctx context.Context, target string, data any, toID bool, known options, given []PublishOption,
) (*Ack, error) {
	o, err := readOptions(target, data, known, given)
	if err != nil {
		return nil, err
	}
	o.request.ToID = toID
	o.setTimeout(ctx)
	a := &Ack{client: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.haveRoom(ctx); err != nil {
		return nil, err
	}
	question, failure := c.session.Ask(&o.request, c.now(), a.changed.tell)
	c.settle()
	if failure != nil {
		return nil, public(failure)
	}
	a.question = question
	return a, nil
}

// Request asks the subscribers of a topic, and its groups, and returns the first result: what a
// handler of one of them has returned. The others are not waited for. The result is nil if that is
// nothing.
//
// It takes [Timeout], [Headers], [MessageID], [Key] and [Retry]. It fails with [ErrNobodyThere] if
// there is nobody to ask, with a *[RequestFailed] if all fail, with [ErrRequestTimeout] if all are
// silent, with a *[ConnectionLost] when the connection ends (but see [MessageID]), and as
// [Client.PublishWithAck] does.
func (c *Client) Request(
	ctx context.Context, topic string, data any, options ...PublishOption,
) (json.RawMessage, error) {
	const known = withTimeout | withHeaders | withMessageID | withKey | withRetry
	return c.request(ctx, topic, data, false, known, options)
}

// RequestToID asks the client, or server, of an id, likewise. It takes [Timeout], [Headers] and
// [MessageID].
func (c *Client) RequestToID(
	ctx context.Context, id string, data any, options ...PublishOption,
) (json.RawMessage, error) {
	return c.request(ctx, id, data, true, withTimeout|withHeaders|withMessageID, options)
}

func (c *Client) request(
	ctx context.Context, target string, data any, toID bool, known options, given []PublishOption,
) (json.RawMessage, error) {
	a, err := c.publishWithAck(ctx, target, data, toID, known, given)
	if err != nil {
		return nil, err
	}
	defer a.Cancel() // whoever has not answered yet is not waited for
	var result json.RawMessage
	err = c.until(ctx, &a.changed, func() (bool, error) {
		answer, failure, done := a.question.Answer()
		result = answer
		return done, public(failure)
	})
	return result, err
}

// ID is the publisher's id of the request.
func (a *Ack) ID() string { return a.question.ID() }

// Wait waits until all have answered, or their time is over, and returns the responses by id, and
// those of groups by "GROUP of TOPIC". There are none if nobody was there. After Cancel it returns
// what has come.
//
// It fails with [ErrRequestTimeout] if the server does not tell the end in time, with a
// *[ConnectionLost] or [ErrClientClosed] when the connection of the request ends, with a
// *[ServerError], and when ctx ends; it returns what has come by then as well.
func (a *Ack) Wait(ctx context.Context) (map[string]*AckResponse, error) {
	err := a.client.until(ctx, &a.changed, func() (bool, error) {
		return a.question.Done, public(a.question.Err)
	})
	responses := make(map[string]*AckResponse)
	for _, response := range a.from(0) {
		name := response.Name()
		for responses[name] != nil { // a client may call itself as a group is called
			name += " (group)"
		}
		responses[name] = response
	}
	return responses, err
}

// WaitAny waits for the first response; it returns nil if there is none. It fails as Wait does.
func (a *Ack) WaitAny(ctx context.Context) (*AckResponse, error) {
	for response, err := range a.Responses(ctx) {
		return response, err
	}
	return nil, nil
}

// Responses yields the responses as they come, until all have come. The last element is an error if
// the request ends with one: those of Wait. Leaving the loop changes nothing.
func (a *Ack) Responses(ctx context.Context) iter.Seq2[*AckResponse, error] {
	return func(yield func(*AckResponse, error) bool) {
		given, isDone := 0, false
		for !isDone {
			err := a.client.until(ctx, &a.changed, func() (bool, error) {
				isDone = a.question.Done
				if len(a.question.Outcomes) > given {
					return true, nil
				}
				return isDone, public(a.question.Err)
			})
			for _, response := range a.from(given) {
				given++
				if !yield(response, nil) {
					return
				}
				isDone = false // there may be more, or an error
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// from returns the responses from a number on.
func (a *Ack) from(number int) []*AckResponse {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	var responses []*AckResponse
	for _, outcome := range a.question.Outcomes[number:] {
		responses = append(responses, responseOf(outcome))
	}
	return responses
}

// Done tells whether the request has ended.
func (a *Ack) Done() bool {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return a.question.Done
}

// Presence is the [Presence.Version] of the topic at which the message was published. It is known
// at the end of the request; 0: nobody looks who is subscribed.
func (a *Ack) Presence() int64 {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return a.question.Version
}

// Status asks the server for the receivers, and whether each has answered. Once the request has
// ended it tells what is known, or fails as Wait does.
func (a *Ack) Status(ctx context.Context) (map[string]bool, error) {
	c := a.client
	ctx, cancel := context.WithTimeoutCause(ctx, c.settings.RequestTimeout,
		fmt.Errorf("%w from the server", ErrRequestTimeout))
	defer cancel()
	var changed news
	c.mu.Lock()
	status, err := c.session.AskStatus(a.question, c.now(), changed.tell)
	c.settle()
	c.mu.Unlock()
	if err != nil {
		return nil, public(err)
	}
	failure := c.until(ctx, &changed, func() (bool, error) {
		return status.Done, public(status.Err)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.ForgetStatus(a.question, status)
	return status.Known, failure
}

// Cancel ends the request: those who wait get what has come. It may be called twice.
func (a *Ack) Cancel() {
	c := a.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.Cancel(a.question, nil, c.now())
	c.settle()
}
