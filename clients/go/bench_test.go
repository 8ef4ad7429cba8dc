package kps_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"kps.internal/kps"
	"kps.internal/kps/internal/testbus"
)

// against returns a client of a server that a function plays.
func against(b *testing.B, play func(*testbus.Conn)) *kps.Client {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		s, err := testbus.Accept(conn, 101)
		if err != nil {
			return
		}
		if _, err := s.Read(); err != nil {
			return
		}
		if s.Say(testbus.Pong("me")) == nil {
			play(s)
		}
	}()
	o := &kps.Options{ID: "me", NoReconnect: true, Logger: slog.New(slog.DiscardHandler)}
	c, err := kps.Connect(b.Context(), l.Addr().String(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkPublish publishes as fast as a server that reads without a thought takes it.
func BenchmarkPublish(b *testing.B) {
	text := strings.Repeat("x", 100)
	for name, payload := range map[string]any{
		"text": text, "raw": json.RawMessage(`{"text":"` + text + `"}`), "struct": struct{ Text string }{text},
	} {
		b.Run(name, func(b *testing.B) {
			c := against(b, func(s *testbus.Conn) { _, _ = io.Copy(io.Discard, s.Conn) })
			ctx := context.Background()
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if err := c.Publish(ctx, "news", payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReceive gives messages of 100 bytes to a callback, so many in a frame.
func BenchmarkReceive(b *testing.B) {
	for _, batch := range []int{1, 10, 500} {
		b.Run(fmt.Sprint(batch, " in a frame"), func(b *testing.B) {
			var frame, frames []byte
			payload := `"` + strings.Repeat("x", 98) + `"`
			if batch == 1 {
				frame = testbus.AppendFrame(nil, 1, []byte(`{"action":"publish","topic":"news","from":"bob","data":`+payload+`}`))
			} else {
				payloads := strings.Repeat(payload+",", batch)
				frame = testbus.AppendFrame(nil, 1, []byte(`{"action":"publish","topic":"news","from":"bob","batch":[`+
					payloads[:len(payloads)-1]+`]}`))
			}
			for len(frames) < 64*1024 {
				frames = append(frames, frame...)
			}
			begin := make(chan bool)
			c := against(b, func(s *testbus.Conn) {
				_, _ = s.Read()
				_ = s.Say(`{"action":"subscribed","topic":"news"}`)
				<-begin
				go func() {
					for { // until the client closes
						if _, err := s.Read(); err != nil {
							s.Close()
							return
						}
					}
				}()
				for {
					if _, err := s.Conn.Write(frames); err != nil {
						return
					}
				}
			})
			var count atomic.Int64
			enough := make(chan bool)
			_, err := c.Subscribe(b.Context(), "news", func(m *kps.Message) {
				if count.Add(1) == int64(b.N) {
					close(enough)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(100)
			b.ResetTimer()
			defer cpu(b)()
			close(begin)
			<-enough
		})
	}
}

// BenchmarkRequest asks and is answered, one after the other, through a small bus in this process.
func BenchmarkRequest(b *testing.B) {
	worker := connect(b, &kps.Options{ID: "bench-worker", OnDirect: func(_ context.Context, m *kps.Message) (any, error) {
		return m.Data, nil
	}})
	c := connect(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.RequestToID(b.Context(), worker.ID(), 1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServer does the same through a real server.
func BenchmarkServer(b *testing.B) {
	url := serve(b)
	b.Run("request", func(b *testing.B) {
		worker := connectTo(b, url, &kps.Options{ID: "worker", OnDirect: func(_ context.Context, m *kps.Message) (any, error) {
			return m.Data, nil
		}})
		c := connectTo(b, url, nil)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.RequestToID(b.Context(), worker.ID(), 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("publish and receive", func(b *testing.B) {
		publisher, subscriber := connectTo(b, url, nil), connectTo(b, url, nil)
		var count atomic.Int64
		enough := make(chan bool)
		_, err := subscriber.Subscribe(b.Context(), "news", func(*kps.Message) {
			if count.Add(1) == int64(b.N) {
				close(enough)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		payload := strings.Repeat("x", 98)
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			if err := publisher.Publish(b.Context(), "news", payload); err != nil {
				b.Fatal(err)
			}
		}
		<-enough
	})
}
