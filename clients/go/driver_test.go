package kps_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kps.internal/kps"
	"kps.internal/kps/internal/testbus"
)

// The tests here run in bubbles of testing/synctest: time passes at once when nothing else happens,
// and a goroutine that is left behind fails the test.

// network is a network in memory: what a client dials, a test accepts.
type network struct {
	t     *testing.T
	dials chan net.Conn
}

func newNetwork(t *testing.T) *network {
	return &network{t, make(chan net.Conn)}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case n.dials <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// server is a connection that the test plays.
type server struct {
	*testbus.Conn
	t *testing.T
}

func (n *network) accept() *server {
	n.t.Helper()
	conn, err := testbus.Accept(<-n.dials, 101)
	if err != nil {
		n.t.Fatal(err)
	}
	return &server{conn, n.t}
}

// welcome accepts a connection, and registers the client.
func (n *network) welcome() *server {
	n.t.Helper()
	s := n.accept()
	s.wants(`{"action":"ping","from":"me","proto":2}`)
	s.says(testbus.Pong("me"))
	return s
}

func (s *server) says(messages ...string) {
	s.t.Helper()
	for _, message := range messages {
		if err := s.Write([]byte(message)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *server) reads() string {
	s.t.Helper()
	text, err := s.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *server) wants(want string) {
	s.t.Helper()
	if got := s.reads(); got != want {
		s.t.Fatalf("got %s instead of %s", got, want)
	}
}

// closes waits for the end of the connection.
func (s *server) closes(code int) {
	s.t.Helper()
	_, err := s.Read()
	if closed := new(testbus.Closed); code > 0 && (!errors.As(err, &closed) || closed.Code != code) || err == nil {
		s.t.Fatalf("%v instead of close code %d", err, code)
	}
	s.Close()
}

// nameIn returns the value of a field of a message.
func nameIn(message, field string) string {
	var fields map[string]any
	_ = json.Unmarshal([]byte(message), &fields)
	name, _ := fields[field].(string)
	return name
}

// start connects a client, which is closed at the end.
func (n *network) start(o *kps.Options) (*kps.Client, *server) {
	n.t.Helper()
	if o == nil {
		o = &kps.Options{}
	}
	o.ID, o.Dial, o.Logger = "me", n.dial, slog.New(slog.DiscardHandler)
	c, err := kps.New("bus.example", o)
	if err != nil {
		n.t.Fatal(err)
	}
	s := n.welcome()
	if err := c.Ready(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	return c, s
}

// discard reads what the client writes, and answers nothing.
func (s *server) discard() { go func() { _, _ = io.Copy(io.Discard, s.Conn.Conn) }() }

// end closes a client and its connection.
func end(c *kps.Client, s *server) {
	go func() { _ = c.Close() }()
	for {
		if _, err := s.Read(); err != nil {
			break
		}
	}
	s.Close()
	<-c.Done()
}

func TestReconnectingTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var told []string
		c, s := n.start(&kps.Options{
			Reconnect:    &kps.Backoff{First: time.Second, Factor: 2, Longest: 4 * time.Second},
			OnConnect:    func(e kps.Connected) { told = append(told, fmt.Sprintf("%s %v", e.ID, e.Again)) },
			OnDisconnect: func(e kps.Disconnected) { told = append(told, fmt.Sprintf("%d %v", e.Code, e.RetryIn)) },
		})
		begun := time.Now()
		s.Close()
		for _, wait := range []time.Duration{1, 2, 4, 4} {
			conn := <-n.dials
			if got := time.Since(begun); got != wait*time.Second {
				t.Errorf("waited %v", got)
			}
			begun = time.Now()
			_, _ = testbus.Accept(conn, 503)
		}
		s = n.welcome()
		synctest.Wait()
		if got := strings.Join(told, ", "); got != "me false, 1006 1s, me true" {
			t.Error(got)
		}
		end(c, s)
	})
}

func TestDeadServersAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var lost time.Duration
		begun := time.Now()
		c, s := n.start(&kps.Options{NoReconnect: true, OnDisconnect: func(kps.Disconnected) { lost = time.Since(begun) }})
		s.discard()
		<-c.Done()
		synctest.Wait()
		if lost != 45*time.Second {
			t.Error(lost)
		}
		if gone := new(kps.ConnectionLost); !errors.As(c.Err(), &gone) {
			t.Error(c.Err())
		}
		s.Close()
	})
}

// A server that takes nothing is noticed too.
func TestServersThatTakeNothingAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(&kps.Options{NoReconnect: true})
		if err := c.Publish(t.Context(), "a", 1); err != nil {
			t.Error(err)
		}
		<-c.Done()
		s.Close()
	})
}

func TestConnectIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := &kps.Options{ID: "me", Dial: n.dial, Logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		if _, err := kps.Connect(ctx, "bus.example", o); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if time.Since(begun) != time.Minute {
			t.Error(time.Since(begun))
		}
		o.NoReconnect = true
		_, err := kps.Connect(t.Context(), "bus.example", o)
		if failed := new(kps.ConnectFailed); !errors.As(err, &failed) {
			t.Error(err)
		}
		go func() { _, _ = testbus.Accept(<-n.dials, 403) }()
		_, err = kps.Connect(t.Context(), "bus.example", o)
		if failed := new(kps.ConnectFailed); !errors.As(err, &failed) || failed.Status != 403 {
			t.Error(err)
		}
	})
}

func TestCloseWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(nil)
		for i := range 3 {
			if err := c.Publish(t.Context(), "a", i); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan error)
		go func() { closed <- c.Close() }()
		var got []string
		for {
			text, err := s.Read()
			if err != nil {
				break
			}
			got = append(got, string(text))
		}
		s.Close()
		if err := <-closed; err != nil || !strings.Contains(strings.Join(got, " "), "2") {
			t.Error(err, got)
		}
		if err := c.Publish(t.Context(), "a", 1); !errors.Is(err, kps.ErrClientClosed) || !errors.Is(err, kps.ErrNotConnected) {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(nil)
		if err := c.Publish(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := c.Close(); err == nil {
			t.Error("what was not sent is not told")
		}
		if took := time.Since(begun); took < 5*time.Second || took > 7*time.Second {
			t.Error(took)
		}
		s.Close()
	})
}

func TestCloseWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		for _, accepts := range []bool{false, true} {
			c, err := kps.New("bus.example", &kps.Options{Dial: n.dial})
			if err != nil {
				t.Fatal(err)
			}
			waits := make(chan error)
			go func() { waits <- c.Ready(context.Background()) }()
			if accepts {
				conn := <-n.dials
				go func() { _, _ = io.Copy(io.Discard, conn) }()
			}
			synctest.Wait()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := <-waits; !errors.Is(err, kps.ErrClientClosed) {
				t.Error(err)
			}
		}
	})
}

func TestAnswersAreWaitedForInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(&kps.Options{RequestTimeout: 3 * time.Second})
		s.discard()
		var begun time.Time
		for name, call := range map[string]func(context.Context) error{
			"flush":     c.Flush,
			"receipt":   func(ctx context.Context) error { _, err := c.PublishWithReceipt(ctx, "a", 1); return err },
			"history":   func(ctx context.Context) error { _, err := c.History(ctx, "a"); return err },
			"presence":  func(ctx context.Context) error { _, err := c.Presence(ctx, "a"); return err },
			"subscribe": func(ctx context.Context) error { _, err := c.Subscribe(ctx, "a", func(*kps.Message) {}); return err },
		} {
			begun = time.Now()
			if err := call(t.Context()); !errors.Is(err, kps.ErrRequestTimeout) || time.Since(begun) != 3*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(begun))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		begun = time.Now()
		_, err := c.Request(t.Context(), "a", 1, kps.Timeout(2*time.Second))
		if !errors.Is(err, kps.ErrRequestTimeout) || time.Since(begun) != 3*time.Second {
			t.Error(err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err = c.Request(ctx, "a", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go func() { _ = c.Close() }()
		<-c.Done()
		s.Close()
	})
}

// Publishing waits while the network is slower than the program, and nothing is lost.
func TestPublishingWaitsForTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(nil)
		const count = 5000
		payload := strings.Repeat("x", 1000)
		var published atomic.Int64
		go func() {
			for i := range count {
				if err := c.Publish(context.Background(), "a", fmt.Sprint(i, payload)); err != nil {
					t.Error(err)
				}
				published.Add(1)
			}
		}()
		synctest.Wait()
		if got := published.Load(); got < 500 || got > 1500 {
			t.Errorf("%d are published before the server has read any", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Publish(ctx, "b", "not sent"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		next := 0
		for next < count {
			text := s.reads()
			if text[0] != '[' {
				text = "[" + text + "]"
			}
			var messages []struct {
				Topic, Data string
				Batch       []string
			}
			if err := json.Unmarshal([]byte(text), &messages); err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				if m.Batch == nil {
					m.Batch = []string{m.Data}
				}
				for _, data := range m.Batch {
					if data != fmt.Sprint(next, payload) || m.Topic != "a" {
						t.Fatalf("%.20s instead of %d", data, next)
					}
					next++
				}
			}
		}
		end(c, s)
	})
}

// While the program is slower than the messages, the client does not read, and drops nothing.
func TestReadingWaitsForTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(&kps.Options{Limits: kps.Limits{MailboxMessages: 3200}})
		var handled atomic.Int64
		subscribed := make(chan *kps.Subscription)
		go func() {
			sub, err := c.Subscribe(context.Background(), "a", func(m *kps.Message) {
				time.Sleep(100 * time.Millisecond)
				if string(m.Data) != fmt.Sprint(handled.Add(1)) {
					t.Error(m, handled.Load())
				}
			})
			if err != nil {
				t.Error(err)
			}
			subscribed <- sub
		}()
		s.wants(`{"action":"subscribe","topic":"a"}`)
		s.says(`{"action":"subscribed","topic":"a"}`)
		sub := <-subscribed
		const count = 1000
		var written atomic.Int64
		go func() {
			for i := range count {
				if s.Write(fmt.Appendf(nil, `{"action":"publish","topic":"a","from":"b","data":%d}`, i+1)) != nil {
					return
				}
				written.Add(1)
			}
		}()
		synctest.Wait()
		if got := written.Load(); got > 200 {
			t.Errorf("%d are read at once", got)
		}
		time.Sleep(time.Second)
		if got := written.Load(); got > 200 {
			t.Errorf("%d are read in a second", got)
		}
		s.discard() // the client's pings
		time.Sleep(count * 100 * time.Millisecond)
		synctest.Wait()
		if handled.Load() != count || sub.Dropped() != 0 {
			t.Error(handled.Load(), sub.Dropped())
		}
		go func() { _ = c.Close() }()
		<-c.Done()
		s.Close()
	})
}

// Handlers may call the client, also for answers that come behind other messages.
func TestHandlersMayCallTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(&kps.Options{Limits: kps.Limits{MailboxMessages: 320}})
		handled := make(chan error, 1000)
		go func() {
			_, err := c.Subscribe(context.Background(), "a", func(*kps.Message) {
				handled <- c.Flush(context.Background())
			})
			if err != nil {
				t.Error(err)
			}
		}()
		s.wants(`{"action":"subscribe","topic":"a"}`)
		s.says(`{"action":"subscribed","topic":"a"}`)
		go func() {
			for range 100 {
				_ = s.Write([]byte(`{"action":"publish","topic":"a","from":"b","data":1}`))
			}
		}()
		for range 100 {
			text := s.reads()
			s.says(fmt.Sprintf(`{"action":"pong","nonce":%q}`, nameIn(text, "nonce")))
			if err := <-handled; err != nil {
				t.Fatal(err)
			}
		}
		end(c, s)
	})
}

func TestNoHandlerBeginsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(nil)
		var calls atomic.Int64
		subs := make(chan *kps.Subscription, 2)
		go func() {
			for _, topic := range []string{"a", "b"} {
				sub, err := c.Handle(context.Background(), topic, func(ctx context.Context, _ *kps.Message) (any, error) {
					calls.Add(1)
					<-ctx.Done() // ends with the subscription, or with the client
					return nil, nil
				})
				if err != nil {
					t.Error(err)
				}
				subs <- sub
			}
		}()
		for _, topic := range []string{"a", "b"} {
			s.reads()
			s.says(fmt.Sprintf(`{"action":"subscribed","topic":%q}`, topic))
		}
		a := <-subs
		<-subs
		for range 10 {
			s.says(`{"action":"publish_ack","topic":"a","ack_id":"q","from":"x","data":1}`, `{"action":"publish","topic":"b","data":1}`)
		}
		synctest.Wait()
		go a.Unsubscribe()
		for range 11 {
			text := s.reads()
			if text[0] == '[' {
				break
			}
		}
		end(c, s)
		synctest.Wait()
		if calls.Load() != 2 {
			t.Error(calls.Load())
		}
	})
}

// Handlers that panic harm nobody, and are not forgotten.
func TestHandlersThatPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		reported := make(chan error, 10)
		c, s := n.start(&kps.Options{
			OnDirect: func(context.Context, *kps.Message) (any, error) { panic("oops") },
			OnError: func(err error) {
				reported <- err
				panic("again")
			},
		})
		s.says(`{"action":"publish_ack","ack_id":"q","from":"x","data":1}`)
		s.wants(`{"action":"ack","ack_id":"q","success":false,"error":"panic: oops"}`)
		s.says(`{"action":"direct_message","from":"x","data":1}`, `{"action":"error","error":"x"}`)
		failed, refused := new(kps.HandlerFailed), new(kps.ServerError)
		one, two := <-reported, <-reported
		if !errors.As(one, &failed) && !errors.As(two, &failed) || !errors.As(one, &refused) && !errors.As(two, &refused) {
			t.Error(one, two)
		}
		end(c, s)
	})
}

func TestTokensForEachConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		count := 0
		c, s := n.start(&kps.Options{Reconnect: kps.Every(time.Second), TokenFunc: func(context.Context) (string, error) {
			count++
			if count == 2 {
				return "", errors.New("none at the moment")
			}
			return fmt.Sprint("token", count), nil
		}})
		if got := s.Request.Header.Get("Authorization"); got != "Bearer token1" {
			t.Error(got)
		}
		_ = s.WriteClose(4002)
		s.closes(4002)
		s = n.welcome()
		if got := s.Request.Header.Get("Authorization"); got != "Bearer token3" {
			t.Error(got)
		}
		end(c, s)
	})
}

// What a connection has not sent is kept for the next one.
func TestOfflineQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c, s := n.start(&kps.Options{OfflineQueue: 2, Reconnect: kps.Every(time.Second)})
		s.Close()
		synctest.Wait()
		for i := range 3 {
			err := c.Publish(t.Context(), "a", i)
			if (err != nil) != (i == 2) || err != nil && !errors.Is(err, kps.ErrQueueFull) {
				t.Error(i, err)
			}
		}
		s = n.welcome()
		s.wants(`[{"action":"publish","topic":"a","data":0},{"action":"publish","topic":"a","data":1}]`)
		end(c, s)
	})
}
