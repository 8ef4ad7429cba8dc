package kps

import (
	"errors"
	"fmt"
	"strings"

	"kps.internal/kps/internal/core"
)

// Errors without details, for [errors.Is].
var (
	// ErrNotConnected: the call needs a connection, and there is none at the moment. Nothing was
	// sent. Try again once the client is connected, or set [Options.OfflineQueue], which keeps
	// publications until then.
	ErrNotConnected = errors.New("kps: not connected to the server at the moment")

	// ErrClientClosed: the client was closed, by the program or for good by the server; then the
	// error has the reason as well. It is an ErrNotConnected too.
	ErrClientClosed = fmt.Errorf("kps: the client is closed: %w", errNoConnection{})

	// ErrRequestTimeout: the server, or all those who were asked, did not answer in time.
	ErrRequestTimeout error = timeoutError{}

	// ErrNobodyThere: a request has reached nobody, as the topic has no subscriber, or nobody has
	// the id.
	ErrNobodyThere = errors.New("kps: nobody was there to handle the request")

	// ErrQueueFull: a bounded queue has no room. Nothing was sent.
	ErrQueueFull = errors.New("kps: a queue is full")
)

type errNoConnection struct{}

func (errNoConnection) Error() string        { return "it will not connect again" }
func (errNoConnection) Is(target error) bool { return target == ErrNotConnected }

type timeoutError struct{}

func (timeoutError) Error() string { return "kps: no answer in time" }

// Timeout makes it a timeout as package net means it.
func (timeoutError) Timeout() bool { return true }

// ConnectFailed tells that no connection could be made.
type ConnectFailed struct {
	// Status is the HTTP status with which the server has refused; 0: it failed otherwise.
	Status int
	Reason string
}

func (e *ConnectFailed) Error() string { return "kps: " + e.Reason }

// ConnectionLost tells that the connection ended while something waited for an answer on it. It is
// unknown whether the server has handled that: repeat it only if it may happen twice, or give it a
// [MessageID].
type ConnectionLost struct {
	// Code is the close code; 1006 if there was none.
	Code   int
	Reason string
}

func (e *ConnectionLost) Error() string { return "kps: " + e.Reason }

// ServerError is a refusal of the server.
type ServerError struct {
	// Code is what programs can rely on, such as "no_such_client"; empty on level 1.
	Code string
	// Text is for people.
	Text string

	// Request is the action that was refused; the others are what it was about. Those that the
	// server did not tell are empty.
	Request, Topic, Pattern, Group, To string
}

func (e *ServerError) Error() string {
	var about strings.Builder
	for _, part := range [...]string{e.Request, e.Topic, e.Pattern, e.To} {
		if part != "" {
			about.WriteString(" " + part)
		}
	}
	if about.Len() == 0 {
		return "kps: the server refused: " + e.Text
	}
	return fmt.Sprintf("kps: the server refused%s: %s", about.String(), e.Text)
}

// Temporary tells whether the same may succeed later: the server is busy, or a limit is reached.
func (e *ServerError) Temporary() bool { return (&core.Error{Code: e.Code}).IsTemporary() }

// RequestFailed tells that all those who were asked have failed. It is unknown how far each of them
// has got.
type RequestFailed struct {
	// Reason is the error of one of them: what its handler has returned, or "disconnected".
	Reason string
	// Errors has those of all, by the id of the client; of a group without a member by "GROUP of
	// TOPIC".
	Errors map[string]string
}

func (e *RequestFailed) Error() string { return "kps: the request failed: " + e.Reason }

// Unsupported tells that the server cannot do what was asked: it is older, or speaks level 1.
// Nothing was sent.
type Unsupported struct {
	// Feature is what it lacks, such as "patterns".
	Feature string

	// What the subscription was about that has ended by that, if one has.
	Topic, Pattern, Group string
}

func (e *Unsupported) Error() string {
	return "kps: the server does not have " + e.Feature
}

// InvalidArgument tells that the program has given something that cannot be sent. Nothing was sent,
// and nothing has changed.
type InvalidArgument struct{ Reason string }

func (e *InvalidArgument) Error() string { return "kps: " + e.Reason }

// MessageTooLarge tells that a message is larger than the server takes. Nothing was sent.
type MessageTooLarge struct{ Reason string }

func (e *MessageTooLarge) Error() string { return "kps: " + e.Reason }

// HandlerFailed tells that a handler has returned an error, or has panicked, and that nobody else
// is told.
type HandlerFailed struct {
	Topic string // empty: that of direct messages, or one of [Options]
	Err   error
}

func (e *HandlerFailed) Error() string {
	return fmt.Sprintf("kps: the handler of %q failed: %v", e.Topic, e.Err)
}

// Unwrap returns what the handler has returned.
func (e *HandlerFailed) Unwrap() error { return e.Err }

// public makes the error for the program.
func public(err *core.Error) error {
	if err == nil {
		return nil
	}
	switch err.Kind {
	case core.MessageTooLarge:
		return &MessageTooLarge{err.Text}
	case core.NotConnected:
		return ErrNotConnected
	case core.ClientClosed:
		if err.Cause != nil {
			return fmt.Errorf("%w: %w", ErrClientClosed, public(err.Cause))
		}
		return ErrClientClosed
	case core.ConnectFailed:
		return &ConnectFailed{err.Status, err.Text}
	case core.ConnectionLost:
		return &ConnectionLost{err.Close, err.Text}
	case core.RequestTimeout:
		return fmt.Errorf("%w: %s", ErrRequestTimeout, err.Text)
	case core.QueueFull:
		return fmt.Errorf("%w: %s", ErrQueueFull, err.Text)
	case core.Unsupported:
		return &Unsupported{err.Lacks, err.Topic, err.Pattern, err.Group}
	case core.NobodyThere:
		return ErrNobodyThere
	case core.RequestFailed:
		return &RequestFailed{err.Text, err.Errors}
	case core.ServerError:
		return &ServerError{Code: err.Code, Text: err.Text, Request: err.Request, Topic: err.Topic,
			Pattern: err.Pattern, Group: err.Group, To: err.To}
	}
	return &InvalidArgument{err.Text}
}
