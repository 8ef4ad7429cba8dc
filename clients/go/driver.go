package kps

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"kps.internal/kps/internal/core"
)

const (
	never = time.Duration(math.MaxInt64)

	sizeOfRead  = 64 * 1024
	sizeOfWrite = 256 * 1024
	onePiece    = 64 * 1024 // bytes of a write that the network must take in time
	lingering   = time.Second
)

// A client has one goroutine that connects and reads, one that writes while there is a connection,
// and one for each mailbox with messages that has a handler. The timer has one when it is due.
// Whoever calls the core has the lock, and then calls settle.

func (c *Client) now() core.Time { return time.Since(c.begun) }

// settle does what a call of the core has made due.
func (c *Client) settle() {
	for _, event := range c.session.Events() {
		c.take(event)
	}
	if due := c.session.Deadline(); due < c.armed {
		c.armed = due
		c.timer.Reset(max(0, due-c.now()))
	}
	if c.link == nil {
		return
	}
	if c.isIdle && c.link.HasOutput() {
		c.wakeWriter()
	}
	if !c.link.WantsPause() {
		c.reading.tell()
	}
	if c.link.IsOver() {
		// The reader must not wait for more, and the writer not long.
		_ = c.conn.SetReadDeadline(time.Now())
		_ = c.conn.SetWriteDeadline(time.Now().Add(lingering))
	}
}

// wakeWriter wakes the writer, if it waits.
func (c *Client) wakeWriter() {
	if c.isIdle {
		c.isIdle = false
		c.written <- struct{}{}
	}
}

func (c *Client) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = never
	c.session.Tick(c.now())
	c.settle()
}

// run connects and reads until the client has ended.
func (c *Client) run() {
	defer close(c.done)
	for {
		select {
		case <-c.needed:
			c.connect()
		case <-c.over:
			c.timer.Stop()
			c.cancel()
			return
		}
	}
}

// connect makes one connection, and returns when that is over.
func (c *Client) connect() {
	conn, token, err := c.open()
	c.mu.Lock()
	if err != nil {
		c.session.ConnectFailed(err.Error(), c.now())
		c.settle()
		c.mu.Unlock()
		return
	}
	link := c.session.Connected(token, c.now())
	c.link, c.conn = link, conn
	c.settle()
	c.mu.Unlock()

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c.write(conn, link)
	}()
	c.read(conn, link)
	<-gone

	c.mu.Lock()
	saysGoodbye := link.SaidGoodbye()
	c.link, c.conn = nil, nil
	c.mu.Unlock()
	if saysGoodbye {
		linger(conn)
	}
	_ = conn.Close()
}

// open opens a connection, with a token for it.
func (c *Client) open() (net.Conn, string, error) {
	s := c.settings
	ctx, cancel := context.WithTimeout(c.context, s.ConnectTimeout)
	defer cancel()
	token := s.Token
	if s.TokenFunc != nil {
		var err error
		if token, err = s.TokenFunc(ctx); err == nil {
			err = checkToken(token)
		}
		if err != nil {
			return nil, "", fmt.Errorf("the function for the token failed: %w", err)
		}
	}
	conn, err := s.Dial(ctx, "tcp", s.address.network)
	if err != nil || !s.address.secure {
		return conn, token, err
	}
	config := &tls.Config{}
	if s.TLS != nil {
		config = s.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = s.address.name
	}
	config.NextProtos = []string{"http/1.1"} // the handshake is one of HTTP/1.1
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, "", err
	}
	return secure, token, nil
}

// read reads until the connection is over.
func (c *Client) read(conn net.Conn, link *core.Link) {
	buffer := make([]byte, sizeOfRead)
	for {
		n, err := conn.Read(buffer)
		c.mu.Lock()
		if n > 0 {
			link.Receive(buffer[:n], c.now())
		}
		if err != nil {
			link.Lost(c.now(), words(err))
		}
		c.settle()
		for link.WantsPause() {
			link.SetReading(false, c.now())
			goOn := c.reading.wait()
			c.settle()
			c.mu.Unlock()
			<-goOn
			c.mu.Lock()
		}
		link.SetReading(true, c.now())
		isOver := link.IsOver()
		c.mu.Unlock()
		if isOver {
			return
		}
	}
}

// words tells of an error of the network without the addresses, which are the program's own.
func words(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server has ended the connection"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// write writes what waits, until the connection is over and its last frame is written.
func (c *Client) write(conn net.Conn, link *core.Link) {
	var buffer []byte
	for {
		c.mu.Lock()
		buffer = link.Output(buffer[:0], sizeOfWrite)
		c.room.tell()
		if len(buffer) == 0 {
			if link.IsOver() {
				c.mu.Unlock()
				return
			}
			c.isIdle = true
			c.mu.Unlock()
			<-c.written
			continue
		}
		c.mu.Unlock()
		if n, err := c.writeAll(conn, buffer); err != nil {
			c.mu.Lock()
			link.Unwritten(n)
			link.Lost(c.now(), words(err))
			c.settle()
			c.mu.Unlock()
			return
		}
		if cap(buffer) > 4*sizeOfWrite {
			buffer = nil
		}
	}
}

// writeAll fails when the network takes nothing for as long as the heartbeat allows.
func (c *Client) writeAll(conn net.Conn, data []byte) (written int, err error) {
	limits := &c.settings.config.Limits
	patience := limits.HeartbeatInterval + limits.HeartbeatTimeout
	for written < len(data) {
		c.mu.Lock()
		if c.link == nil || !c.link.IsOver() {
			_ = conn.SetWriteDeadline(time.Now().Add(patience))
		}
		c.mu.Unlock()
		n, err := conn.Write(data[written:min(len(data), written+onePiece)])
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// linger lets the server read the last frame, before the end of the connection could overtake it.
func linger(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, conn)
}

// -- events

// take handles an event of the core.
func (c *Client) take(event core.Event) {
	s := c.settings
	switch e := event.(type) {
	case core.ConnectNeeded:
		c.needed <- struct{}{}
	case core.AttemptFailed:
		c.notify(func() {
			s.Logger.Warn("kps: cannot connect", "server", s.address.url(), "reason", e.Reason,
				"retry_in", e.RetryIn)
		})
	case core.Connected:
		c.changed.tell()
		c.welcome(Connected{e.ID, e.Again})
	case core.Disconnected:
		c.changed.tell()
		c.room.tell()
		if !e.Retries {
			e.RetryIn = -1
		}
		notify(c, s.OnDisconnect, Disconnected{e.Code, e.Reason, e.RetryIn, e.Dropped})
	case core.Recovered:
		notify(c, s.OnRecovered, Recovered{e.Topic, int(e.Messages)})
	case core.Lost:
		notify(c, s.OnLost, Lost{e.Topic, int(e.Messages)})
	case core.PresenceChanged:
		for _, sub := range e.Observers {
			if m, ok := sub.Owner.(*mailbox); ok && m.observer != nil {
				notify(c, m.observer, presenceOf(e.Presence))
			}
		}
	case core.Refused:
		c.report(public(e.Error))
	case core.Overflowed:
		c.report(fmt.Errorf("%w: the program is slower than the messages on %q, and some are dropped",
			ErrQueueFull, e.Subscription.Key.Topic))
	case core.Frame:
		notify(c, s.OnFrame, json.RawMessage(e.Data))
	case core.Ended:
		c.cancel()
		c.changed.tell()
		c.room.tell()
		close(c.over)
		notify(c, s.OnClose, public(e.Error))
	}
}

// notify has a function of the program called, if there is one.
func notify[T any](c *Client, tell func(T), value T) {
	if tell != nil {
		c.notify(func() { tell(value) })
	}
}

// welcome tells about a connection. Handlers get its messages when that is told.
func (c *Client) welcome(e Connected) {
	if c.settings.OnConnect == nil {
		return
	}
	told := make(chan struct{})
	c.welcomed = told
	c.notify(func() {
		defer close(told)
		c.settings.OnConnect(e)
	})
}

func (c *Client) notify(notice func()) { c.session.Notify(notice) }

// report tells of an error that nobody else is told.
func (c *Client) report(err error) {
	c.notify(func() {
		if c.settings.OnError != nil {
			c.settings.OnError(err)
		} else {
			c.settings.Logger.Warn("kps: an error that nobody waits for", "error", err)
		}
	})
}
