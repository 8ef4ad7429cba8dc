package kps

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"kps.internal/kps/internal/core"
	"kps.internal/kps/internal/ws"
)

// Options are what a client can be told. The zero value of each field is its default.
//
// The functions are called one after the other, in the order of what they tell, and may call the
// client. They should return soon: while many such calls wait, the client does not read.
type Options struct {
	// ID is the id by which others reach this client. Default: a random one. A second client with
	// the same id takes it over, and the first one then closes for good.
	ID string

	// Token identifies this client to a server that asks for one. TokenFunc gives one for each
	// connection instead; if it fails, so does that attempt to connect. The client connects when it
	// has returned, so it must not wait for the client.
	Token     string
	TokenFunc func(ctx context.Context) (string, error)

	// Header has more fields for the opening request. It may be an [http.Header].
	//
	// [http.Header]: https://pkg.go.dev/net/http#Header
	Header map[string][]string

	// TLS is for connections with TLS, those to wss URLs. Default: one that verifies the server's
	// certificate.
	TLS *tls.Config

	// Dial opens the connection below TLS. Default: that of a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Reconnect tells how long to wait before the next attempt to connect. Default:
	// [DefaultBackoff]. With NoReconnect the client ends with its first connection, and also if
	// it cannot make that; without it, the client waits for a server that is down, also at first.
	Reconnect   *Backoff
	NoReconnect bool

	// OfflineQueue is how many publications the client keeps while it has no connection, of up to
	// 16 MiB in all, to send them in order when it has one again. Default: it keeps none, and
	// publishing fails with [ErrNotConnected].
	OfflineQueue int

	// ConnectTimeout is the time for one attempt to connect, TLS included. Default: 10 s.
	ConnectTimeout time.Duration
	// RequestTimeout is the time for the server to answer. Default: 10 s.
	RequestTimeout time.Duration

	// Level is the highest level of the protocol to offer: 2, which is the default, or 1.
	Level int

	Limits Limits

	// Logger is told about failed attempts to connect, and about errors if there is no OnError.
	// Default: [slog.Default].
	Logger *slog.Logger

	// OnDirect handles direct messages, as the handler of [Client.Handle] does.
	OnDirect Handler
	// OnConnect is told about each connection, once the client is registered. Handlers get the
	// messages of the connection when it has returned, so it must not wait for these.
	OnConnect func(Connected)
	// OnDisconnect is told when such a connection has ended.
	OnDisconnect func(Disconnected)
	// OnRecovered is told when all messages of a topic with history come that were missed.
	OnRecovered func(Recovered)
	// OnLost is told when some of them do not come.
	OnLost func(Lost)
	// OnError is told what is told to nobody else: refusals of the server as a *[ServerError],
	// errors of handlers as a *[HandlerFailed], dropped messages as [ErrQueueFull], subscriptions
	// that have ended.
	OnError func(error)
	// OnFrame is told each message of the server as it came.
	OnFrame func(json.RawMessage)
	// OnClose is called once the client has closed for good; err is nil if the program closed it.
	OnClose func(err error)
}

// Backoff tells how long to wait before another attempt to connect: First, and Factor times as long
// after each failure, up to Longest. Jitter is the part of each wait that is random, so that the
// clients of a restarted server do not all come back at once.
//
// The waits start anew after a connection, but from the fifth one in a row that lived for less
// than Longest they start one step later each time.
type Backoff struct {
	First   time.Duration
	Factor  float64
	Longest time.Duration
	Jitter  float64
}

// DefaultBackoff is that of a client that is not told another one.
var DefaultBackoff = Backoff{First: 250 * time.Millisecond, Factor: 2, Longest: 30 * time.Second, Jitter: 0.5}

// Every is a backoff that always waits the same time, of at least 10 ms.
func Every(wait time.Duration) *Backoff {
	return &Backoff{First: wait, Factor: 1, Longest: wait}
}

// Limits are the bounds of a client. The zero value of each field is its default.
type Limits struct {
	// MaxMessage is the size of the largest incoming message, in bytes. Default: 64 MiB. A server
	// may send larger messages than it takes.
	MaxMessage int

	// QueueMessages and QueueBytes are how much may wait to be written. Default: 262 144 messages
	// and 64 MiB. Publishing waits for the network beyond 1 MiB, so this only bounds what cannot
	// wait.
	QueueMessages int
	QueueBytes    int

	// MailboxMessages and MailboxBytes are how much may wait for one subscription. Default:
	// 262 144 messages and 64 MiB. The client does not read while a 32nd of that waits.
	MailboxMessages int
	MailboxBytes    int

	// MailboxPatience is how long it does not read for a subscription whose program finishes no
	// message. Default: 10 s, and half a second while an answer of the server is due, for which
	// the program may wait. Then it reads for the others, and messages for which a full mailbox
	// has no room are dropped, counted and reported.
	MailboxPatience time.Duration

	// HeartbeatInterval is after how long a silence the client asks whether the server is still
	// there, and HeartbeatTimeout how long it waits for a sign of life then. Default: 25 s and
	// 20 s.
	HeartbeatInterval time.Duration
	HeartbeatTimeout  time.Duration

	// CloseTimeout is how long Close waits for what is still to be written, and for the server.
	// Default: 5 s.
	CloseTimeout time.Duration
}

// Connected tells that the client is registered at the server.
type Connected struct {
	ID    string // by which others reach it
	Again bool   // whether it was connected before
}

// Disconnected tells that a connection has ended.
type Disconnected struct {
	Code    int // the close code; 1006 if there was none
	Reason  string
	RetryIn time.Duration // before the next attempt; below 0: there is none
	Dropped int           // publications that were accepted and not sent
}

// Recovered tells that the client gets all messages of a topic with history that it has missed:
// after a reconnect, or since the position with which the program has subscribed.
type Recovered struct {
	Topic    string // or the text of the pattern
	Messages int    // that come, before any new one
}

// Lost tells that it does not get some of them: the server has kept fewer, knows nothing any more,
// or has dropped some because the client reads too slowly.
type Lost struct {
	Topic    string // or the text of the pattern
	Messages int    // that do not come; -1: nobody knows how many
}

const highWater = 1 << 20 // bytes that wait to be written, beyond which publishing waits

// settings are options that have been checked.
type settings struct {
	Options
	address address
	config  core.Config
}

func read(addr string, options *Options) (*settings, error) {
	s := &settings{}
	if options != nil {
		s.Options = *options
	}
	var err error
	if s.address, err = parseAddress(addr); err != nil {
		return nil, err
	}
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = 10 * time.Second
	}
	if s.RequestTimeout == 0 {
		s.RequestTimeout = 10 * time.Second
	}
	if s.Level == 0 {
		s.Level = 2
	}
	if s.Dial == nil {
		s.Dial = (&net.Dialer{}).DialContext
	}
	s.config = core.Config{
		ID:             s.ID,
		Host:           s.address.host,
		Target:         s.address.target,
		TokenMayChange: s.TokenFunc != nil,
		Level:          s.Level,
		Offline:        s.OfflineQueue,
		TakesDirect:    s.OnDirect != nil,
		ReportsFrames:  s.OnFrame != nil,
		Limits:         s.Limits.core(),
	}
	return s, s.check()
}

func (s *settings) check() error {
	for name, values := range s.Header {
		for _, value := range values {
			if name == "" || strings.ContainsAny(name+value, "\r\n\x00") || strings.ContainsAny(name, " :") {
				return &InvalidArgument{fmt.Sprintf("%q is no header of a request", name)}
			}
			s.config.Fields = append(s.config.Fields, ws.Field{Name: name, Value: value})
		}
	}
	if s.Token != "" && s.TokenFunc != nil {
		return &InvalidArgument{"Token and TokenFunc exclude each other"}
	}
	if s.Token != "" {
		if err := checkToken(s.Token); err != nil {
			return err
		}
	}
	if s.Level != 1 && s.Level != 2 {
		return &InvalidArgument{"Level is 1 or 2"}
	}
	if s.OfflineQueue < 0 || s.ConnectTimeout < 0 || s.RequestTimeout < 0 {
		return &InvalidArgument{"OfflineQueue, ConnectTimeout and RequestTimeout are not negative"}
	}
	if s.NoReconnect {
		return nil
	}
	b := DefaultBackoff
	if s.Reconnect != nil {
		b = *s.Reconnect
	}
	if b.First < 10*time.Millisecond || b.Longest < b.First || b.Factor < 1 || b.Jitter < 0 || b.Jitter > 1 {
		return &InvalidArgument{
			"a backoff has First of at least 10 ms, Longest >= First, Factor >= 1, Jitter from 0 to 1",
		}
	}
	s.config.Reconnect = &core.Backoff{First: b.First, Factor: b.Factor, Longest: b.Longest, Jitter: b.Jitter}
	return nil
}

// checkToken refuses what does not fit into a header. It does not show it.
func checkToken(token string) error {
	for i := 0; i < len(token); i++ {
		if token[i] <= ' ' || token[i] >= 0x7F {
			return &InvalidArgument{"a token is ASCII, without spaces and line ends"}
		}
	}
	if token == "" {
		return &InvalidArgument{"a token is not empty"}
	}
	return nil
}

func (l *Limits) core() core.Limits {
	limits := core.DefaultLimits
	set := func(limit *int, value int) {
		if value > 0 {
			*limit = value
		}
	}
	setTime := func(limit, value *time.Duration) {
		if *value > 0 {
			*limit = *value
		}
	}
	set(&limits.MaxMessage, l.MaxMessage)
	set(&limits.QueueMessages, l.QueueMessages)
	set(&limits.QueueBytes, l.QueueBytes)
	set(&limits.MailboxMessages, l.MailboxMessages)
	set(&limits.MailboxBytes, l.MailboxBytes)
	setTime(&limits.MailboxPatience, &l.MailboxPatience)
	setTime(&limits.HeartbeatInterval, &l.HeartbeatInterval)
	setTime(&limits.HeartbeatTimeout, &l.HeartbeatTimeout)
	setTime(&limits.CloseTimeout, &l.CloseTimeout)
	return limits
}
