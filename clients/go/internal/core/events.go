package core

// Event is something that the core tells its driver.
type Event any

type (
	// ConnectNeeded asks for a transport: answer with Connected or ConnectFailed.
	ConnectNeeded struct{}

	// AttemptFailed tells that there was no connection, and when there will be another attempt.
	AttemptFailed struct {
		Reason  string
		RetryIn Time
	}

	// Connected tells that the client is registered, and has sent its subscriptions.
	Connected struct {
		ID    string
		Again bool
	}

	// Disconnected tells that a connection of the registered client has ended.
	Disconnected struct {
		Code    int
		Reason  string
		Retries bool
		RetryIn Time
		Dropped int // messages that were accepted from the program and not written
	}

	// Refused tells of an error that nobody waits for.
	Refused struct{ Error *Error }

	// Recovered tells that all messages come that a subscription has missed.
	Recovered struct {
		Topic    string // or the text of the pattern
		Messages int64
	}

	// Lost tells that messages of a topic with history do not come; -1: nobody knows how many.
	Lost struct {
		Topic    string
		Messages int64
	}

	// PresenceChanged tells who is subscribed to a topic, and what has changed.
	PresenceChanged struct {
		Presence  *Presence
		Observers []*Subscription
	}

	// Overflowed tells that a subscription began to drop messages.
	Overflowed struct{ Subscription *Subscription }

	// Frame is a message of the server as it came.
	Frame struct{ Data []byte }

	// Ended tells that the client has ended for good; Error is nil if the program closed it.
	Ended struct{ Error *Error }
)
