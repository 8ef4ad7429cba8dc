// Package core is the protocol of a client, without any I/O: bytes, times and calls of the program
// go in; bytes, events and deadlines come out. Whoever uses it calls it from one goroutine at a
// time.
package core

import (
	"math"
	"time"

	"kps.internal/kps/internal/ws"
)

// Time is a moment, as the time since the client was made.
type Time = time.Duration

// Config is what a client is told once.
type Config struct {
	ID     string
	Host   string // of the request
	Target string // path and query
	Fields []ws.Field
	// TokenMayChange tells that each attempt has a new token.
	TokenMayChange bool
	Level          int
	Reconnect      *Backoff // nil: the client ends with its first connection
	// Offline is the number of publications that are kept without a connection.
	Offline       int
	ReportsFrames bool
	// TakesDirect tells that the program takes direct messages.
	TakesDirect bool
	Limits      Limits

	// Random returns unpredictable bits.
	Random func() uint32
}

// Limits are the bounds of a client. Each has a default in DefaultLimits.
type Limits struct {
	MaxMessage      int // bytes of an incoming message
	QueueMessages   int // messages that wait to be written
	QueueBytes      int
	OfflineBytes    int
	MailboxMessages int // messages that wait for one subscription
	MailboxBytes    int
	MailboxPatience Time
	ResultBytes     int // of the outcomes of all pending ack requests

	HandshakeTimeout  Time
	HeartbeatInterval Time
	HeartbeatTimeout  Time
	CloseTimeout      Time
}

// DefaultLimits are the bounds of a client that is not told others.
var DefaultLimits = Limits{
	MaxMessage:        64 << 20,
	QueueMessages:     262_144,
	QueueBytes:        64 << 20,
	OfflineBytes:      16 << 20,
	MailboxMessages:   262_144,
	MailboxBytes:      64 << 20,
	MailboxPatience:   10 * time.Second,
	ResultBytes:       256 << 20,
	HandshakeTimeout:  10 * time.Second,
	HeartbeatInterval: 25 * time.Second,
	HeartbeatTimeout:  20 * time.Second,
	CloseTimeout:      5 * time.Second,
}

// Bounds of texts that the program gives, in characters. Servers have their own, smaller ones,
// which a client does not know; these refuse at once what no server takes.
const (
	longestName    = 65_536
	longestAddress = 1024
	longestError   = 1000
)

// What others take in memory besides their bytes, roughly.
const (
	costOfMessage  = 128
	costOfOutcome  = 128
	costOfQuestion = 1024
	costOfKept     = 96
)

// never is a deadline that does not come.
const never = Time(math.MaxInt64)

// Backoff tells how long to wait between attempts.
type Backoff struct {
	First   Time
	Factor  float64
	Longest Time
	Jitter  float64 // the random part of a wait
}

// DefaultBackoff is that between attempts to connect.
var DefaultBackoff = Backoff{250 * time.Millisecond, 2, 30 * time.Second, 0.5}

// delay returns the wait before an attempt, counted from 0; chance is in [0, 1).
func (b *Backoff) delay(attempt int, chance float64) Time {
	wait := float64(b.First)
	for range attempt {
		if wait *= b.Factor; wait >= float64(b.Longest) {
			wait = float64(b.Longest)
			break
		}
	}
	return Time(wait * (1 - b.Jitter*chance))
}
