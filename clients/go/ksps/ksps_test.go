package ksps_test

import (
	"fmt"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"kps.internal/kps/internal/testbus"
	"kps.internal/kps/ksps"
)

var address string

func TestMain(m *testing.M) {
	l, err := testbus.New().Listen()
	if err != nil {
		panic(err)
	}
	address = l.Addr().String()
	code := m.Run()
	l.Close()
	os.Exit(code)
}

func connect(t *testing.T, opts ksps.ClientOptions) *ksps.Client {
	t.Helper()
	opts.Address = address
	c, err := ksps.NewClient(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A program of the original, as it stands.
func TestProgramOfTheOriginal(t *testing.T) {
	direct := make(chan ksps.Message, 1)
	server := connect(t, ksps.ClientOptions{Id: "server", OnID: func(data ksps.Message) { direct <- data }})
	closed := make(chan bool, 1)
	client := connect(t, ksps.ClientOptions{Id: "client", Autorestart: true, OnClose: func() { closed <- true }})
	got := make(chan ksps.Message, 10)
	unsub := server.Subscribe("events", func(data ksps.Message, unsub func()) { got <- data })
	client.Publish("events", map[string]any{"n": 1, "big": uint64(1) << 63, "x": 1.5, "list": []any{int64(1) << 60}})
	want := map[string]any{"n": int64(1), "big": uint64(1) << 63, "x": 1.5, "list": []any{int64(1) << 60}}
	if m := <-got; m.From != "client" || !reflect.DeepEqual(m.Data, want) {
		t.Errorf("%#v", m)
	}
	ack := client.PublishWithAck("events", "From Go!", 3*time.Second)
	responses := ack.Wait()
	if r := responses["server"]; !r.Success || r.ClientID != "server" || len(responses) != 1 || !ack.IsComplete() {
		t.Error(responses, ack.GetStatus())
	}
	if r, ok := ack.WaitAny(); !ok || r.ClientID != "server" {
		t.Error(r, ok)
	}
	client.PublishToID("server", "hello")
	if m := <-direct; m.Data != "hello" || m.From != "client" {
		t.Error(m)
	}
	if r, ok := client.PublishToIDWithAck("server", 1, time.Second).WaitAny(); !ok || !r.Success {
		t.Error(r, ok)
	}
	if r, ok := client.PublishToIDWithAck("nobody", 1, time.Second).WaitAny(); ok {
		t.Error(r)
	}
	// A second callback takes the place of the first.
	<-got
	second := make(chan ksps.Message, 10)
	server.Subscribe("events", func(data ksps.Message, unsub func()) {
		second <- data
		unsub()
	})
	client.Publish("events", 2)
	if m := <-second; m.Data != int64(2) {
		t.Error(m)
	}
	unsub()
	client.PublishToServer("other.example:9313", 1)
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	client.Run() // returns, as the client is closed
	<-closed
	<-client.Done
	if len(got) > 0 {
		t.Error("the first callback goes on")
	}
}

func TestWithoutAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	if _, err := ksps.NewClient(ksps.ClientOptions{Address: free}); err == nil {
		t.Error("it is connected")
	}
	c, err := ksps.NewClient(ksps.ClientOptions{Address: free, Autorestart: true, RestartEvery: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if responses := c.PublishWithAck("a", 1, time.Second).Wait(); len(responses) > 0 {
		t.Error(responses)
	}
	ack := c.PublishWithAck("a", 1, time.Second)
	ack.Cancel()
	if _, ok := ack.WaitAny(); ok || ack.IsComplete() {
		t.Error("nobody was asked")
	}
	got := make(chan ksps.Message, 10)
	c.Subscribe("a", func(data ksps.Message, _ func()) { got <- data }) // is not forgotten
	l, err = net.Listen("tcp", free)
	if err != nil {
		t.Skip("the port is taken:", err)
	}
	defer l.Close()
	bus := testbus.New()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go bus.Serve(conn)
		}
	}()
	for end := time.Now().Add(10 * time.Second); len(got) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c.KPS().IsConnected() {
			c.Publish("a", 1)
		}
	}
	if m := <-got; m.Data != int64(1) {
		t.Error(m)
	}
}

func TestFrames(t *testing.T) {
	frames := make(chan ksps.WsMessage, 100)
	c := connect(t, ksps.ClientOptions{Id: "watcher", OnDataWs: func(m ksps.WsMessage, c *ksps.Client) error {
		frames <- m
		return fmt.Errorf("is logged")
	}})
	if m := <-frames; m.Action != "pong" || m.ID != "watcher" {
		t.Error(m)
	}
	c.Subscribe("a", func(ksps.Message, func()) {})
	if m := <-frames; m.Action != "subscribed" || m.Topic != "a" {
		t.Error(m)
	}
	if c.KPS().Level() != 1 {
		t.Error(c.KPS().Level())
	}
}

func TestNoClient(t *testing.T) {
	var c *ksps.Client
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ksps.NewClient(ksps.ClientOptions{Address: "a b"}); err == nil {
		t.Error("no address")
	}
}
