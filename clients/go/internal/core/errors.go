package core

import "fmt"

// Kind is the kind of an error.
type Kind int

// The kinds of errors that a program can meet.
const (
	InvalidArgument Kind = iota + 1
	MessageTooLarge
	NotConnected
	ClientClosed
	ConnectFailed
	ConnectionLost
	RequestTimeout
	QueueFull
	Unsupported
	ServerError
	NobodyThere
	RequestFailed
)

// Error is any error of the core.
type Error struct {
	Kind Kind
	Text string

	Status int    // ConnectFailed: the HTTP status, if the server refused
	Close  int    // ConnectionLost: the close code
	Lacks  string // Unsupported: the feature

	// ServerError: what the server has refused, and why.
	Code, Request, Topic, Pattern, Group, To string

	// RequestFailed: the errors of those who were asked, by name.
	Errors map[string]string

	// ClientClosed: why the client has ended, unless the program closed it.
	Cause *Error
}

func (e *Error) Error() string { return e.Text }

// IsTemporary tells whether the same may succeed later.
func (e *Error) IsTemporary() bool {
	return e.Code == "rate_limited" || e.Code == limitReached || e.Code == "unavailable"
}

const limitReached = "limit_reached"

func errorf(kind Kind, format string, values ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, values...)}
}

func lacks(feature string) *Error {
	return &Error{Kind: Unsupported, Text: "the server does not have " + feature, Lacks: feature}
}

var errClosed = &Error{Kind: ClientClosed, Text: "the client was closed"}
