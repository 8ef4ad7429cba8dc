package kps_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kps.internal/kps"
)

// connect returns a client of the bus, which is closed at the end of the test.
func connect(t testing.TB, o *kps.Options) *kps.Client {
	t.Helper()
	if o == nil {
		o = &kps.Options{}
	}
	o.Logger = slog.New(slog.DiscardHandler)
	c, err := kps.Connect(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// topic is one that no other test has.
func topic(t testing.TB) string { return strings.ReplaceAll(t.Name(), "/", "-") }

func TestPublishAndSubscribe(t *testing.T) {
	one, two := connect(t, &kps.Options{ID: "one-" + topic(t)}), connect(t, nil)
	got := make(chan *kps.Message, 10)
	sub, err := two.Subscribe(t.Context(), topic(t), func(m *kps.Message) { got <- m })
	if err != nil {
		t.Fatal(err)
	}
	payloads := []any{nil, true, 5, int64(1 << 62), 1.5, "a<b>\"ä\"", []int{1}, map[string]any{"x": nil},
		json.RawMessage(` {"n": 12345678901234567890} `), struct{ A int }{7}}
	for _, payload := range payloads {
		if err := one.Publish(t.Context(), topic(t), payload); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"null", "true", "5", "4611686018427387904", "1.5", `"a<b>\"ä\""`, "[1]", `{"x":null}`,
		`{"n":12345678901234567890}`, `{"A":7}`}
	for i := range payloads {
		if m := <-got; string(m.Data) != want[i] || m.From != one.ID() || m.Topic != topic(t) || m.WantsAck() {
			t.Errorf("%s instead of %s", m, want[i])
		}
	}
	sub.Unsubscribe()
	if err := one.Publish(t.Context(), topic(t), 1); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.Flush(t.Context()), two.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	if len(got) > 0 {
		t.Error("it goes on")
	}
	if sub.Topic() != topic(t) || sub.Err() != nil {
		t.Error(sub.Topic(), sub.Err())
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	c := connect(t, nil)
	deep := json.RawMessage(strings.Repeat("[", 300) + strings.Repeat("]", 300))
	for _, payload := range []any{make(chan int), json.RawMessage(`{`), json.RawMessage(`1 2`), json.RawMessage(`"\ud800"`),
		[]byte("x"), json.RawMessage(`1e999`), json.RawMessage("\"\xff\""), deep, []any{deep}, json.Number("1e999")} {
		err := c.Publish(t.Context(), topic(t), payload)
		if invalid := new(kps.InvalidArgument); !errors.As(err, &invalid) {
			t.Errorf("%.20s: %v", payload, err)
		}
	}
	for name, err := range map[string]error{
		"an empty topic": c.Publish(t.Context(), "", 1),
		"an option":      c.Publish(t.Context(), "a", 1, kps.MessageID("x")),
		"an empty id":    c.PublishToID(t.Context(), "", 1),
		"a header":       c.Publish(t.Context(), "a", 1, kps.Headers(map[string]string{"a": "\xff"})),
		"an address":     c.PublishToServer(t.Context(), "", 1, false),
	} {
		if invalid := new(kps.InvalidArgument); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, option := range map[string]kps.PublishOption{
		"a timeout": kps.Timeout(0), "a message id": kps.MessageID(""), "retries": kps.Retry(-1), "a name": kps.Expect(""),
	} {
		_, err := c.PublishWithAck(t.Context(), "a", 1, option)
		if invalid := new(kps.InvalidArgument); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := kps.MessageTooLarge{}
	if err := c.Publish(t.Context(), "a", strings.Repeat("x", 2<<20)); !errors.As(err, new(*kps.MessageTooLarge)) {
		t.Error(err, large)
	}
	if _, err := c.Subscribe(t.Context(), "a", func(*kps.Message) {}, kps.Info(5)); !errors.As(err, new(*kps.InvalidArgument)) {
		t.Error(err)
	}
	if _, err := c.Handle(t.Context(), "a", nil); !errors.As(err, new(*kps.InvalidArgument)) {
		t.Error(err)
	}
}

func TestInvalidOptions(t *testing.T) {
	for _, text := range []string{"ftp://x", "http://", "a b", "host:0", "host:99999", "ws://u:p@host", "ws://host#x", "[::1"} {
		if _, err := kps.New(text, nil); !errors.As(err, new(*kps.InvalidArgument)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := kps.New("ws://a b?token=secret", nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	for name, o := range map[string]kps.Options{
		"a token": {Token: "a b"}, "two tokens": {Token: "a", TokenFunc: func(context.Context) (string, error) { return "", nil }},
		"a level": {Level: 3}, "a queue": {OfflineQueue: -1}, "a backoff": {Reconnect: &kps.Backoff{}},
		"a header": {Header: map[string][]string{"a b": {"c"}}}, "a line": {Header: map[string][]string{"a": {"b\r\nc: d"}}},
	} {
		if _, err := kps.New("host", &o); !errors.As(err, new(*kps.InvalidArgument)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMessages(t *testing.T) {
	c := connect(t, nil)
	begun := make(chan bool)
	var got []string
	done := make(chan error)
	go func() {
		close(begun)
		for m, err := range c.Messages(t.Context(), topic(t)) {
			if err != nil {
				done <- err
				return
			}
			if got = append(got, string(m.Data)); len(got) == 3 {
				break
			}
			if err := m.Reply(len(got)); err != nil {
				done <- err
			}
		}
		done <- nil
	}()
	<-begun
	for count := 0; count == 0; { // until it is subscribed
		var err error
		if count, err = c.PublishWithReceipt(t.Context(), topic(t), "first"); err != nil {
			t.Fatal(err)
		}
	}
	// It counts as handled when the loop asks for the next one.
	if result, err := c.Request(t.Context(), topic(t), "second"); string(result) != "2" || err != nil {
		t.Error(string(result), err)
	}
	if err := c.Publish(t.Context(), topic(t), "third"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !reflect.DeepEqual(got, []string{`"first"`, `"second"`, `"third"`}) {
		t.Error(err, got)
	}
	if count, err := c.PublishWithReceipt(t.Context(), topic(t), "fourth"); count != 0 || err != nil {
		t.Error("leaving the loop does not unsubscribe", count, err)
	}
}

func TestLoopsThatFail(t *testing.T) {
	c := connect(t, nil)
	go func() {
		for m, err := range c.Messages(t.Context(), topic(t)) {
			if err != nil {
				return
			}
			m.Fail("no idea")
		}
	}()
	for {
		_, err := c.Request(t.Context(), topic(t), 1)
		if errors.Is(err, kps.ErrNobodyThere) { // it is not subscribed yet
			continue
		}
		if failed := new(kps.RequestFailed); !errors.As(err, &failed) || failed.Reason != "no idea" {
			t.Error(err)
		}
		return
	}
}

// What handlers return for publishers who do not ask is not overlooked.
func TestErrorsOfHandlers(t *testing.T) {
	reported := make(chan error, 1)
	c := connect(t, &kps.Options{OnError: func(err error) { reported <- err }})
	cause := errors.New("no idea")
	_, err := c.Handle(t.Context(), topic(t), func(context.Context, *kps.Message) (any, error) { return nil, cause })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), topic(t), 1); err != nil {
		t.Fatal(err)
	}
	var failed *kps.HandlerFailed
	if err := <-reported; !errors.As(err, &failed) || failed.Topic != topic(t) || !errors.Is(err, cause) {
		t.Error(err)
	}
	// And a result that is no JSON is told as an error.
	other := topic(t) + "2"
	if _, err = c.Handle(t.Context(), other, func(context.Context, *kps.Message) (any, error) { return make(chan int), nil }); err != nil {
		t.Fatal(err)
	}
	ack, err := c.PublishWithAck(t.Context(), other, 1)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ack.WaitAny(t.Context())
	if err != nil || response.Success || !strings.Contains(response.Error, "cannot be sent") || response.Decode(new(int)) != nil {
		t.Error(response, err)
	}
}

func TestLoopsEnd(t *testing.T) {
	c := connect(t, nil)
	loop := func(ctx context.Context) chan error {
		ended, begun := make(chan error, 1), make(chan bool, 1000)
		go func() {
			var last error
			for _, err := range c.Messages(ctx, topic(t)) {
				last = err
				begun <- true
			}
			ended <- last
		}()
		for count := 0; count == 0; {
			var err error
			if count, err = c.PublishWithReceipt(context.Background(), topic(t), 1); err != nil {
				t.Fatal(err)
			}
		}
		<-begun
		return ended
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := loop(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ended = loop(t.Context())
	c.Unsubscribe(topic(t))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	ended = loop(t.Context())
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, err := range c.Messages(t.Context(), "a") {
		if !errors.Is(err, kps.ErrClientClosed) {
			t.Error(err)
		}
	}
}

func TestAcks(t *testing.T) {
	c := connect(t, &kps.Options{ID: "me-" + topic(t)})
	good := connect(t, &kps.Options{ID: "good-" + topic(t)})
	bad := connect(t, &kps.Options{ID: "bad-" + topic(t)})
	_, err := good.Handle(t.Context(), topic(t), func(_ context.Context, m *kps.Message) (any, error) {
		var n int
		err := m.Decode(&n)
		return n * 2, err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bad.Handle(t.Context(), topic(t), func(context.Context, *kps.Message) (any, error) {
		return nil, errors.New("no idea")
	})
	if err != nil {
		t.Fatal(err)
	}
	ack, err := c.PublishWithAck(t.Context(), topic(t), 21, kps.Expect("ghost"), kps.Timeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	responses, err := ack.Wait(t.Context())
	if err != nil || len(responses) != 3 || !ack.Done() {
		t.Fatal(responses, err)
	}
	if r := responses[good.ID()]; !r.Success || string(r.Result) != "42" {
		t.Error(r)
	}
	if r := responses[bad.ID()]; r.Success || r.Error != "no idea" {
		t.Error(r)
	}
	if r := responses["ghost"]; r.Error != "absent" {
		t.Error(r)
	}
	count := 0
	for response, err := range ack.Responses(t.Context()) {
		if err != nil || responses[response.Name()] == nil {
			t.Error(response, err)
		}
		count++
	}
	if any, err := ack.WaitAny(t.Context()); any == nil || err != nil || count != 3 {
		t.Error(any, err, count)
	}
	if status, err := ack.Status(t.Context()); err != nil || !status[good.ID()] {
		t.Error(status, err)
	}
	if _, err := c.Request(t.Context(), "nobody", 1); !errors.Is(err, kps.ErrNobodyThere) {
		t.Error(err)
	}
	ack, err = c.PublishToIDWithAck(t.Context(), "nobody", 1)
	if err != nil {
		t.Fatal(err)
	}
	if responses, err := ack.Wait(t.Context()); len(responses) > 0 || err != nil {
		t.Error(responses, err)
	}
	bad.Close()
	if result, err := c.Request(t.Context(), topic(t), 21); string(result) != "42" || err != nil {
		t.Error(string(result), err)
	}
	good.Close()
}

func TestRequestsThatFail(t *testing.T) {
	c := connect(t, nil)
	worker := connect(t, &kps.Options{ID: "worker-" + topic(t)})
	_, err := worker.Handle(t.Context(), topic(t), func(context.Context, *kps.Message) (any, error) {
		return nil, errors.New("no idea")
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Request(t.Context(), topic(t), 1)
	var failed *kps.RequestFailed
	if !errors.As(err, &failed) || failed.Reason != "no idea" || failed.Errors[worker.ID()] != "no idea" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = worker.Subscribe(t.Context(), topic(t)+"2", func(*kps.Message) { cancel() })
	if err != nil {
		t.Fatal(err)
	}
	if _, err = worker.Handle(t.Context(), topic(t)+"2", func(ctx context.Context, _ *kps.Message) (any, error) {
		<-ctx.Done()
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Request(ctx, topic(t)+"2", 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCancelledAcks(t *testing.T) {
	c := connect(t, nil)
	release := make(chan bool)
	_, err := c.Subscribe(t.Context(), topic(t), func(*kps.Message) { <-release })
	if err != nil {
		t.Fatal(err)
	}
	ack, err := c.PublishWithAck(t.Context(), topic(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := ack.Status(t.Context()); err != nil || len(status) != 1 || status[c.ID()] {
		t.Error(status, err)
	}
	ack.Cancel()
	if responses, err := ack.Wait(t.Context()); len(responses) > 0 || err != nil {
		t.Error(responses, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if ack, err = c.PublishWithAck(t.Context(), topic(t), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := ack.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	if _, err := ack.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDirectMessages(t *testing.T) {
	got := make(chan *kps.Message, 1)
	bob := connect(t, &kps.Options{ID: "bob-" + topic(t), OnDirect: func(_ context.Context, m *kps.Message) (any, error) {
		if m.WantsAck() {
			return "hello " + m.From, nil
		}
		got <- m
		return nil, nil
	}})
	reported := make(chan error, 1)
	alice := connect(t, &kps.Options{ID: "alice-" + topic(t), OnError: func(err error) { reported <- err }})
	headers := map[string]string{"kind": "x"}
	if err := alice.PublishToID(t.Context(), bob.ID(), 1, kps.Headers(headers)); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.From != alice.ID() || string(m.Data) != "1" || !reflect.DeepEqual(m.Headers, headers) || m.Topic != "" {
		t.Error(m)
	}
	if result, err := alice.RequestToID(t.Context(), bob.ID(), 1); string(result) != `"hello `+alice.ID()+`"` || err != nil {
		t.Error(string(result), err)
	}
	if err := alice.PublishToID(t.Context(), "nobody", 1); err != nil {
		t.Fatal(err)
	}
	var refused *kps.ServerError
	if err := <-reported; !errors.As(err, &refused) || refused.Code != "no_such_client" || refused.To != "nobody" || refused.Temporary() {
		t.Error(err)
	}
}

func TestPatternSubscriptions(t *testing.T) {
	c := connect(t, nil)
	got := make(chan string, 10)
	_, err := c.Subscribe(t.Context(), topic(t)+"/*/x", func(m *kps.Message) { got <- m.Topic }, kps.AsPattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range []string{"/1/x", "/1/2/x", "/2/x"} {
		if err := c.Publish(t.Context(), topic(t)+rest, 1); err != nil {
			t.Fatal(err)
		}
	}
	if one, two := <-got, <-got; one != topic(t)+"/1/x" || two != topic(t)+"/2/x" {
		t.Error(one, two)
	}
	c.Unsubscribe(topic(t)+"/*/x", kps.AsPattern)
	if count, err := c.PublishWithReceipt(t.Context(), topic(t)+"/1/x", 1); count != 0 || err != nil {
		t.Error(count, err)
	}
}

// Many goroutines call one client.
func TestConcurrentCalls(t *testing.T) {
	c := connect(t, &kps.Options{OnDirect: func(_ context.Context, m *kps.Message) (any, error) { return m.Data, nil }})
	var received atomic.Int64
	var all sync.WaitGroup
	const goroutines, messages = 8, 200
	_, err := c.Subscribe(t.Context(), topic(t), func(*kps.Message) { received.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range goroutines {
		all.Go(func() {
			for j := range messages {
				if err := c.Publish(t.Context(), topic(t), j); err != nil {
					t.Error(err)
				}
				if j%20 == 0 {
					result, err := c.RequestToID(t.Context(), c.ID(), fmt.Sprint(i, j))
					if string(result) != fmt.Sprintf("%q", fmt.Sprint(i, j)) || err != nil {
						t.Error(string(result), err)
					}
					own := fmt.Sprint(topic(t), i, j)
					sub, err := c.Subscribe(t.Context(), own, func(*kps.Message) {})
					if err != nil {
						t.Error(err)
						return
					}
					sub.Unsubscribe()
				}
			}
		})
	}
	all.Wait()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); received.Load() < goroutines*messages && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if received.Load() != goroutines*messages {
		t.Error(received.Load())
	}
}

func TestBytes(t *testing.T) {
	type photo struct {
		Name  string
		Image kps.Bytes
		None  kps.Bytes
	}
	written, err := json.Marshal(photo{"cat", kps.Bytes{0, 255}, nil})
	if err != nil || string(written) != `{"Name":"cat","Image":{"$base64":"AP8="},"None":null}` {
		t.Error(string(written), err)
	}
	var back photo
	if err := json.Unmarshal(written, &back); err != nil || !reflect.DeepEqual(back.Image, kps.Bytes{0, 255}) || back.None != nil {
		t.Error(back, err)
	}
	for _, wrong := range []string{`"AP8="`, `{"$base64":"AP8"}`, `{"$base64":5}`, `{"$base64":"AP8=","x":1}`, `{}`, `{"$base64":"A\nP8="}`} {
		if err := json.Unmarshal([]byte(wrong), new(kps.Bytes)); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	tree := map[string]any{"a": []any{[]byte("x"), "y"}, "b": 1.0}
	packed, err := kps.PackBytes(tree)
	if err != nil {
		t.Fatal(err)
	}
	written, _ = json.Marshal(packed)
	var generic any
	_ = json.Unmarshal(written, &generic)
	if unpacked, err := kps.UnpackBytes(generic); err != nil || !reflect.DeepEqual(unpacked, tree) {
		t.Error(unpacked, err)
	}
	if _, err := kps.PackBytes(map[string]any{"$base64": 1}); err == nil {
		t.Error("it looks like bytes")
	}
	if _, err := kps.UnpackBytes([]any{map[string]any{"$base64": "!"}}); err == nil {
		t.Error("it is not base64")
	}
}
