package kps

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"kps.internal/kps/internal/core"
)

// Client is a connection to the bus that restores itself. Any goroutine may call its methods, those
// of handlers included.
type Client struct {
	settings *settings
	begun    time.Time
	timer    *time.Timer
	context  context.Context // ends when the client begins to close
	cancel   context.CancelFunc
	closing  atomic.Bool

	needed  chan struct{} // the core needs a connection
	over    chan struct{} // the core has ended
	done    chan struct{} // and so has everything else
	written chan struct{} // wakes the writer

	mu      sync.Mutex // for all below, and within the core
	session *core.Session
	link    *core.Link
	conn    net.Conn
	armed   core.Time // when the timer is due
	isIdle  bool      // whether the writer waits for something to write
	changed news      // the client is connected, or no more, or has ended
	room    news      // less waits to be written, or the connection has ended
	reading news      // the client may read again
	notices *mailbox
	direct  *mailbox
	// welcomed is closed when OnConnect has returned; nil: there is no connection, or no OnConnect.
	welcomed <-chan struct{}
}

// Connect makes a client, and waits until it is connected. address is host:port, or a URL of the
// scheme ws or wss; without a port it is 9313, and without a path /ws/bus. nil stands for no
// options.
//
// Connect fails if the server refuses the client for good, if it cannot be reached and
// [Options.NoReconnect] is set, and when ctx ends. It keeps no hold of ctx.
func Connect(ctx context.Context, address string, options *Options) (*Client, error) {
	c, err := New(address, options)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

// New makes a client that connects in the background; [Client.Ready] waits for that. It fails only
// for invalid arguments.
func New(address string, options *Options) (*Client, error) {
	settings, err := read(address, options)
	if err != nil {
		return nil, err
	}
	if settings.config.ID == "" {
		settings.config.ID = randomID()
	}
	settings.config.Random = mathrand.Uint32 // unpredictable, as masks must be
	c := &Client{
		settings: settings,
		begun:    time.Now(),
		needed:   make(chan struct{}, 1),
		over:     make(chan struct{}),
		done:     make(chan struct{}),
		written:  make(chan struct{}, 1),
		armed:    never,
	}
	c.context, c.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = core.New(settings.config, c.now())
	c.timer = time.AfterFunc(never, c.tick)
	c.notices = c.newMailbox(c.session.Notices(), 1, func(m *mailbox, message *core.Message) {
		c.guard(message.Notice)
	})
	if direct := c.session.Direct(); direct != nil {
		c.direct = c.newMailbox(direct, 1, c.handled(c.context, settings.OnDirect))
	}
	c.settle()
	go c.run()
	return c, nil
}

func randomID() string {
	var id [12]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Ready waits until the client is connected. It returns the reason when the client has ended.
func (c *Client) Ready(ctx context.Context) error {
	return c.until(ctx, &c.changed, func() (bool, error) {
		if err := c.session.IsOver(); err != nil {
			return true, c.endError()
		}
		return c.session.IsReady(), nil
	})
}

// endError returns why the client has ended. The caller has the lock.
func (c *Client) endError() error {
	if end := c.session.End(); end != nil && end.Error != nil {
		return public(end.Error)
	}
	return ErrClientClosed
}

// until waits until a condition holds, which it asks with the lock; changed tells when to ask
// again.
func (c *Client) until(ctx context.Context, changed *news, holds func() (bool, error)) error {
	for {
		c.mu.Lock()
		ok, err := holds()
		if ok || err != nil {
			c.mu.Unlock()
			return err
		}
		told := changed.wait()
		c.mu.Unlock()
		select {
		case <-told:
		case <-ctx.Done():
			return endOf(ctx)
		}
	}
}

// endOf returns why a context has ended: the program's, or one of ours that is a timeout.
func endOf(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrRequestTimeout) {
		return cause
	}
	return ctx.Err()
}

// ID is the id by which others reach this client. It is the server's to give: before the client is
// connected it is the one for which it will ask.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.ID()
}

// IsConnected tells whether the client is connected and registered at the moment.
func (c *Client) IsConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.IsReady()
}

// Level is the level of the protocol that is spoken, 1 or 2; 0 without a connection.
func (c *Client) Level() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Level()
}

// Dropped counts the publications that the client has accepted and never written.
func (c *Client) Dropped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Dropped
}

// Done is closed when the client has ended for good; then [Client.Err] tells why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client has ended; nil if it has not, or the program has closed it.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if end := c.session.End(); end != nil {
		return public(end.Error)
	}
	return nil
}

// Close closes for good. It writes what was accepted before, for up to [Limits.CloseTimeout].
// Callers that wait for an answer get [ErrClientClosed] at once, loops over messages end, and no
// handler begins any more; those that are under way go on, and may be who calls Close.
//
// It returns an error if some publications could not be written. It may be called twice.
func (c *Client) Close() error {
	return c.close(c.settings.config.Limits.CloseTimeout)
}

// abandon closes without waiting for what is to be written.
func (c *Client) abandon() { _ = c.close(0) }

func (c *Client) close(timeout time.Duration) error {
	c.mu.Lock()
	before := c.session.Dropped
	c.closing.Store(true)
	c.session.Close(timeout, c.now())
	c.cancel()
	c.settle()
	c.changed.tell()
	c.room.tell()
	c.mu.Unlock()
	<-c.done
	if lost := c.Dropped() - before; lost > 0 {
		return fmt.Errorf("kps: %d publications were not sent", lost)
	}
	return nil
}

// news wakes those who wait for something. Its methods are called with the lock.
type news struct{ told chan struct{} }

func (n *news) wait() <-chan struct{} {
	if n.told == nil {
		n.told = make(chan struct{})
	}
	return n.told
}

func (n *news) tell() {
	if n.told != nil {
		close(n.told)
		n.told = nil
	}
}
