// Package ksps is the client of KPS under the names of the original Go client, so that a program of
// that changes one import path. New programs are better off with package kps, which tells errors,
// takes contexts, and can do more; [Client.KPS] gives its client.
//
// What differs from the original:
//
//   - Nothing is forgotten on a reconnect: Secure, the query of Path, and subscriptions that were made
//     without a connection are kept.
//   - Integers in payloads are int64, or uint64 above that, and not float64, which loses digits.
//     All other numbers are float64.
//   - Callbacks of one topic are called one at a time and in order, those with acknowledgement too,
//     and never on the goroutine that reads: they may call the client, and wait for an ack.
//   - [ClientAck.Wait] of an ack without a connection returns no responses, and does not panic. Its
//     timeout is that of the server too, so it has the outcomes of those who did not answer.
//   - There is no WebSocket of a library: OnDataWs gets the client in its place.
//
// What goes wrong where a method returns no error is logged with [log/slog].
package ksps

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kps.internal/kps"
)

// Message is what a callback gets.
type Message struct {
	Data any    `json:"data"`
	From string `json:"from"`
}

// AckResponse is what became of a message at one client.
type AckResponse struct {
	AckID    string `json:"ack_id"`
	ClientID string `json:"client_id"`
	Success  bool   `json:"success"`
	Error    string `json:"error,omitempty"`
}

// WsMessage is a message of the server as it came, on level 1 of the protocol.
type WsMessage struct {
	Action    string                 `json:"action"`
	Topic     string                 `json:"topic,omitempty"`
	Data      any                    `json:"data,omitempty"`
	From      string                 `json:"from,omitempty"`
	To        string                 `json:"to,omitempty"`
	ID        string                 `json:"id,omitempty"`
	Error     string                 `json:"error,omitempty"`
	AckID     string                 `json:"ack_id,omitempty"`
	Status    map[string]bool        `json:"status,omitempty"`
	Responses map[string]AckResponse `json:"responses,omitempty"`
}

// ClientOptions are what a client is told.
type ClientOptions struct {
	Id      string // default: a random one
	Address string // host:port
	Secure  bool   // whether to use TLS
	Path    string // with a query, if there is one; default: /ws/bus

	// Autorestart has the client reconnect, every RestartEvery. Default: 10 s.
	Autorestart  bool
	RestartEvery time.Duration

	// OnDataWs gets every message of the server. The client then speaks level 1.
	OnDataWs func(data WsMessage, client *Client) error
	// OnID gets direct messages.
	OnID func(data Message)
	// OnClose is called once the client has closed.
	OnClose func()
}

// Client is a connection to the bus.
type Client struct {
	Id           string
	ServerAddr   string
	RestartEvery time.Duration
	Autorestart  bool
	// Done is closed when the client has closed.
	Done chan struct{}

	kps     *kps.Client
	context context.Context

	mu      sync.Mutex
	onClose func()
	topics  map[string]*subscription
}

// subscription is that to one topic.
type subscription struct {
	kps      *kps.Subscription // nil: it is not made yet
	callback atomic.Pointer[callback]
}

type callback = func(data Message, unsub func())

// NewClient makes a client, and waits until it is connected. With Autorestart it does not wait for a
// server that is not there, and connects once that is.
func NewClient(opts ClientOptions) (*Client, error) {
	if opts.Autorestart && opts.RestartEvery == 0 {
		opts.RestartEvery = 10 * time.Second
	}
	c := &Client{
		RestartEvery: opts.RestartEvery,
		Autorestart:  opts.Autorestart,
		Done:         make(chan struct{}),
		context:      context.Background(),
		onClose:      opts.OnClose,
		topics:       make(map[string]*subscription),
	}
	c.ServerAddr = "ws://" + opts.Address
	if opts.Secure {
		c.ServerAddr = "wss://" + opts.Address
	}
	if opts.Path == "" {
		opts.Path = "/ws/bus"
	}
	c.ServerAddr += "/" + strings.TrimPrefix(opts.Path, "/")
	failed := make(chan struct{}, 1)
	client, err := kps.New(c.ServerAddr, c.options(&opts, failed))
	if err != nil {
		return nil, err
	}
	c.kps = client
	go func() {
		<-client.Done()
		close(c.Done)
	}()
	if err := c.ready(failed); err != nil && !opts.Autorestart {
		_ = client.Close()
		return nil, err
	}
	c.Id = client.ID()
	return c, nil
}

func (c *Client) options(opts *ClientOptions, failed chan<- struct{}) *kps.Options {
	o := &kps.Options{
		ID: opts.Id,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				select {
				case failed <- struct{}{}:
				default:
				}
			}
			return conn, err
		},
		NoReconnect: !opts.Autorestart,
		OnClose:     func(error) { c.closed() },
	}
	if opts.Autorestart {
		o.Reconnect = kps.Every(opts.RestartEvery)
	}
	if onID := opts.OnID; onID != nil {
		o.OnDirect = func(_ context.Context, m *kps.Message) (any, error) {
			onID(messageOf(m))
			return nil, nil
		}
	}
	if onData := opts.OnDataWs; onData != nil {
		o.Level = 1
		o.OnFrame = func(frame json.RawMessage) {
			if err := onData(readFrame(frame), c); err != nil {
				slog.Error("ksps: OnDataWs failed", "error", err)
			}
		}
	}
	return o
}

// ready waits until the client is connected, or a first attempt has failed.
func (c *Client) ready(failed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(c.context)
	defer cancel()
	connected := make(chan error, 1)
	go func() { connected <- c.kps.Ready(ctx) }()
	if !c.Autorestart {
		return <-connected
	}
	select {
	case err := <-connected:
		return err
	case <-failed:
		return nil
	case <-time.After(10 * time.Second):
		return nil
	}
}

func (c *Client) closed() {
	c.mu.Lock()
	onClose := c.onClose
	c.mu.Unlock()
	if onClose != nil {
		onClose()
	}
}

// KPS returns the client of package kps that does the work.
func (c *Client) KPS() *kps.Client { return c.kps }

// Subscribe has a callback called with each message on a topic; a second one on the same topic takes
// the place of the first. The callback, and whoever has the result, may end the subscription.
func (c *Client) Subscribe(topic string, callback func(data Message, unsub func())) (unsub func()) {
	unsub = func() { c.Unsubscribe(topic) }
	c.mu.Lock()
	sub := c.topics[topic]
	if sub != nil {
		sub.callback.Store(&callback)
		c.mu.Unlock()
		return unsub
	}
	sub = &subscription{}
	sub.callback.Store(&callback)
	c.topics[topic] = sub
	c.mu.Unlock()
	made, err := c.kps.Subscribe(c.context, topic, func(m *kps.Message) {
		(*sub.callback.Load())(messageOf(m), unsub)
	})
	c.mu.Lock()
	isWanted := c.topics[topic] == sub
	if sub.kps = made; err != nil && isWanted {
		delete(c.topics, topic)
	}
	c.mu.Unlock()
	if err != nil {
		c.log("subscribe", topic, err)
	} else if !isWanted {
		made.Unsubscribe()
	}
	return unsub
}

// Unsubscribe ends the subscription to a topic.
func (c *Client) Unsubscribe(topic string) {
	c.mu.Lock()
	sub := c.topics[topic]
	delete(c.topics, topic)
	var made *kps.Subscription
	if sub != nil {
		made = sub.kps
	}
	c.mu.Unlock()
	if made != nil {
		made.Unsubscribe()
	}
}

// Publish publishes to all subscribers of a topic.
func (c *Client) Publish(topic string, data any) {
	c.log("publish", topic, c.kps.Publish(c.context, topic, data))
}

// PublishToID sends a direct message to the client, or server, of an id.
func (c *Client) PublishToID(targetID string, data any) {
	c.log("publish to an id", targetID, c.kps.PublishToID(c.context, targetID, data))
}

// PublishToServer has the server send a message to another server: host:port, and maybe a path and,
// behind "::", the address of a server behind that.
func (c *Client) PublishToServer(addrWithPath string, data any, secure ...bool) {
	isSecure := len(secure) > 0 && secure[0]
	c.log("publish to a server", addrWithPath, c.kps.PublishToServer(c.context, addrWithPath, data, isSecure))
}

func (c *Client) log(what, target string, err error) {
	if err != nil {
		slog.Error("ksps: cannot "+what, "target", target, "error", err)
	}
}

// PublishWithAck publishes, and gathers what becomes of the message at each subscriber.
func (c *Client) PublishWithAck(topic string, data any, timeout time.Duration) *ClientAck {
	ack, err := c.kps.PublishWithAck(c.context, topic, data, withTimeout(timeout)...)
	c.log("publish with ack", topic, err)
	return &ClientAck{ack, c.context}
}

// PublishToIDWithAck sends a direct message, and learns what becomes of it.
func (c *Client) PublishToIDWithAck(targetID string, data any, timeout time.Duration) *ClientAck {
	ack, err := c.kps.PublishToIDWithAck(c.context, targetID, data, withTimeout(timeout)...)
	c.log("publish to an id with ack", targetID, err)
	return &ClientAck{ack, c.context}
}

func withTimeout(timeout time.Duration) []kps.PublishOption {
	if timeout <= 0 {
		return nil
	}
	return []kps.PublishOption{kps.Timeout(timeout)}
}

// Close closes the client. It may be called twice, and on nil.
func (c *Client) Close() error {
	if c == nil {
		return nil
	}
	return c.kps.Close()
}

// Stop is Close.
func (c *Client) Stop() error { return c.Close() }

// Shutdown is Close.
func (c *Client) Shutdown() error { return c.Close() }

// Run waits until the client is closed. An interrupt closes it.
func (c *Client) Run() {
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	select {
	case <-c.Done:
	case <-interrupted.Done():
		_ = c.Close()
	}
}

// OnClose sets the function that is called once the client has closed.
func (c *Client) OnClose(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onClose = fn
}

// ClientAck is what becomes of a message at each of its receivers.
type ClientAck struct {
	ack     *kps.Ack // nil: the message was not sent
	context context.Context
}

// Wait waits until all have answered, or their time is over, and returns the responses by id. If the
// connection ends first, these are the responses that have come.
func (a *ClientAck) Wait() map[string]AckResponse {
	all := make(map[string]AckResponse)
	if a.ack == nil {
		return all
	}
	responses, err := a.ack.Wait(a.context)
	if err != nil && !errors.Is(err, kps.ErrRequestTimeout) {
		slog.Error("ksps: an ack has ended", "error", err)
	}
	for name, response := range responses {
		all[name] = a.responseOf(response)
	}
	return all
}

// WaitAny waits for the first response; it returns false if there is none.
func (a *ClientAck) WaitAny() (AckResponse, bool) {
	if a.ack == nil {
		return AckResponse{}, false
	}
	response, err := a.ack.WaitAny(a.context)
	if response == nil || err != nil {
		return AckResponse{}, false
	}
	return a.responseOf(response), true
}

func (a *ClientAck) responseOf(r *kps.AckResponse) AckResponse {
	return AckResponse{AckID: a.ack.ID(), ClientID: r.ID, Success: r.Success, Error: r.Error}
}

// GetStatus asks the server for the receivers, and whether each has answered.
func (a *ClientAck) GetStatus() map[string]bool {
	if a.ack != nil {
		if status, err := a.ack.Status(a.context); err == nil {
			return status
		}
	}
	return make(map[string]bool)
}

// IsComplete tells whether all receivers have answered.
func (a *ClientAck) IsComplete() bool {
	status := a.GetStatus()
	for _, hasAnswered := range status {
		if !hasAnswered {
			return false
		}
	}
	return len(status) > 0
}

// Cancel ends the wait. It may be called twice.
func (a *ClientAck) Cancel() {
	if a.ack != nil {
		a.ack.Cancel()
	}
}
