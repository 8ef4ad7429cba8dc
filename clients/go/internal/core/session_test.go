package core

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"kps.internal/kps/internal/ws"
)

func TestRegistering(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.open(); got != `{"action":"ping","from":"me","proto":2}` {
		t.Error(got)
	}
	w.says(`{"action":"pong","id":"me-2","proto":2,"limits":{"max_message":100}}`)
	w.wants("connected me-2 false")
	if w.s.ID() != "me-2" || w.s.Level() != 2 || !w.s.IsReady() {
		t.Error(w.s.ID(), w.s.Level())
	}
	w.fails(w.s.Publish("a", []byte(`"`+strings.Repeat("x", 100)+`"`)), MessageTooLarge)
	w.must(w.s.Publish("a", []byte(`1`)))
	w.sends(`{"action":"publish","topic":"a","data":1}`)
}

func TestLevels(t *testing.T) {
	for pong, level := range map[string]int{
		oldPong:  1,
		fullPong: 2,
		`{"action":"pong","id":"me","proto":"2"}`: 1,
		`{"action":"pong","id":"me","proto":3}`:   1,
		`{"action":"pong","id":"me","proto":2}`:   2,
	} {
		if w := connected(t, pong, nil); w.s.Level() != level {
			t.Errorf("%s: %d", pong, w.s.Level())
		}
	}
	w := newWorld(t, func(c *Config) { c.Level = 1 })
	if got := w.open(); got != `{"action":"ping","from":"me"}` {
		t.Error(got)
	}
	if w.says(fullPong); w.s.Level() != 1 {
		t.Error("a level that was not offered")
	}
}

func TestWhatWaitsLeavesTogether(t *testing.T) {
	w := connected(t, fullPong, nil)
	for i := range 3 {
		w.must(w.s.Publish("a", fmt.Appendf(nil, "%d", i)))
	}
	w.must(w.s.Publish("b", []byte(`"x"`)))
	w.must(w.s.Publish("a", []byte(`3`)))
	frames := w.frames()
	want := `[{"action":"publish","topic":"a","batch":[0,1,2]},{"action":"publish","topic":"b","data":"x"},` +
		`{"action":"publish","topic":"a","data":3}]`
	if len(frames) != 1 || frames[0][1] != want {
		t.Errorf("%s", frames)
	}
	w.must(w.s.Publish("a", []byte(`4`)))
	if frames := w.frames(); len(frames) != 1 || frames[0][1] != `{"action":"publish","topic":"a","data":4}` {
		t.Errorf("%s", frames)
	}
}

func TestLevel1SendsOneByOne(t *testing.T) {
	w := connected(t, oldPong, nil)
	w.must(w.s.Publish("a", []byte(`1`)))
	w.must(w.s.Publish("a", []byte(`2`)))
	if frames := w.frames(); len(frames) != 2 || frames[1][1] != `{"action":"publish","topic":"a","data":2,"from":"me"}` {
		t.Errorf("%s", frames)
	}
}

// Frames have up to about 64 KiB, none is larger than the server takes, and the order is kept.
func TestJoiningIsBounded(t *testing.T) {
	for _, most := range []int{1000, 1 << 20} {
		w := connected(t, strings.Replace(fullPong, "1048576", fmt.Sprint(most), 1), nil)
		for i := range 20_000 {
			w.must(w.s.Publish([]string{"a", "b"}[i/7%2], fmt.Appendf(nil, "%d", i)))
		}
		next := 0
		for _, frame := range w.frames() {
			if len(frame[1]) > min(most, largestJoined) {
				t.Fatalf("%d bytes", len(frame[1]))
			}
			text := frame[1]
			if text[0] != '[' {
				text = "[" + text + "]"
			}
			var messages []struct {
				Batch []int
				Data  *int
			}
			if err := json.Unmarshal([]byte(text), &messages); err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				if m.Data != nil {
					m.Batch = []int{*m.Data}
				}
				for _, number := range m.Batch {
					if number != next {
						t.Fatalf("%d instead of %d", number, next)
					}
					next++
				}
			}
		}
		if next != 20_000 {
			t.Error(next)
		}
	}
}

// What is taken in pieces, with more coming in between, is the same.
func TestOutboxGoesOnWhileItIsTaken(t *testing.T) {
	o := outbox{joins: true, largest: 100}
	var taken []byte
	for i := range 5000 {
		o.publish("a", fmt.Appendf(nil, "%d", i))
		if i%3 == 0 {
			taken = o.take(taken, len(taken)+1, func() uint32 { return 0 })
		}
	}
	taken = o.take(taken, 1<<30, func() uint32 { return 0 })
	next := 0
	for len(taken) > 0 {
		size := int(taken[1] & 0x7F)
		var message struct {
			Batch []int
			Data  *int
		}
		if err := json.Unmarshal(taken[6:6+size], &message); err != nil {
			t.Fatal(err, string(taken[6:6+size]))
		}
		if message.Data != nil {
			message.Batch = []int{*message.Data}
		}
		for _, number := range message.Batch {
			if number != next {
				t.Fatalf("%d instead of %d", number, next)
			}
			next++
		}
		taken = taken[6+size:]
	}
	if next != 5000 || o.waiting() != 0 || o.size() != 0 {
		t.Error(next, o.waiting(), o.size())
	}
}

// Bursts use the same memory again and again. It is given back when the queue is empty at a deadline.
func TestMemoryOfTheQueue(t *testing.T) {
	w := connected(t, fullPong, nil)
	payload := []byte(`"` + strings.Repeat("x", 1000) + `"`)
	var written []byte
	burst := func() {
		for range 1000 {
			w.must(w.s.Publish("a", payload))
		}
		written = w.link.Output(written[:0], 1<<30)
	}
	if allocations := testing.AllocsPerRun(10, burst); allocations > 0 {
		t.Error(allocations)
	}
	w.pass(DefaultLimits.HeartbeatInterval)
	if kept := cap(w.link.out.buf); kept > 0 {
		t.Error(kept)
	}
	for range 2 {
		burst()
		for range 3 * mostKept / len(payload) {
			w.must(w.s.Publish("a", payload))
		}
		w.link.Output(nil, 1<<30)
		if kept := cap(w.link.out.buf); kept > mostKept {
			t.Error(kept)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.QueueBytes = 1000 })
	long := []byte(`"` + strings.Repeat("x", 2000) + `"`)
	w.must(w.s.Publish("a", long)) // one that is larger passes an empty queue
	w.fails(w.s.Publish("a", []byte(`1`)), QueueFull)
	_, err := w.s.Flush(w.now, nil)
	w.fails(err, QueueFull)
	w.subscribe(Key{Topic: "b"}, &Wanted{}) // does not depend on what else waits
	w.sent()
	w.must(w.s.Publish("a", []byte(`1`)))
}

func TestNamesAreChecked(t *testing.T) {
	w := connected(t, fullPong, nil)
	for _, name := range []string{"", "a\nb", "a\x7f", "a\u0085", "\xff", strings.Repeat("x", 65_537)} {
		w.fails(w.s.Publish(name, []byte(`1`)), InvalidArgument)
		w.fails(w.s.Send(&Publication{Kind: ToID, Target: name, Data: null}), InvalidArgument)
		w.fails(w.s.Subscribe(&Subscription{Key: Key{Topic: name}}, &Wanted{}, false, 0), InvalidArgument)
		w.fails(w.s.Subscribe(&Subscription{Key: Key{Topic: name, IsPattern: true}}, &Wanted{}, false, 0), InvalidArgument)
		_, err := w.s.Ask(&Request{Target: name, Data: null, Timeout: time.Second}, 0, nil)
		w.fails(err, InvalidArgument)
	}
	w.must(w.s.Publish("ä 😀 \u2028", []byte(`1`)))
	w.sends(`{"action":"publish","topic":"ä 😀 ` + "\u2028" + `","data":1}`)
}

func TestBrackets(t *testing.T) {
	w := connected(t, fullPong, nil)
	many := []byte("[" + strings.Repeat("[],", 70_000) + "0]")
	w.fails(w.s.Publish("a", many), MessageTooLarge)
	w.must(w.s.Publish("a", []byte(`"`+strings.Repeat("x", 200_000)+`"`)))
}

func TestWithoutAConnection(t *testing.T) {
	w := newWorld(t, nil)
	w.fails(w.s.Publish("a", []byte(`1`)), NotConnected)
	_, err := w.s.Flush(0, nil)
	w.fails(err, NotConnected)
	sub := w.subscribe(Key{Topic: "a"}, &Wanted{})
	if !w.s.IsSettled(sub) {
		t.Error("it is waited for")
	}
	w.open()
	w.says(fullPong)
	w.sends(`{"action":"subscribe","topic":"a"}`)
}

func TestOfflineQueue(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Offline = 3 })
	w.must(w.s.Publish("a", []byte(`1`)))
	w.must(w.s.Send(&Publication{Kind: ToID, Target: "bob", Data: []byte(`2`), Headers: []byte(`{"h":"1"}`)}))
	w.must(w.s.Send(&Publication{Kind: ToServer, Target: "h:1", Data: []byte(`3`), Secure: true}))
	w.fails(w.s.Publish("a", []byte(`4`)), QueueFull)
	w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.open()
	w.says(fullPong)
	kept := []string{
		`{"action":"publish","topic":"a","data":1}`,
		`{"action":"direct_message","to":"bob","headers":{"h":"1"},"data":2}`,
		`{"action":"publish_to_server","to":"h:1","status":{"is_secure":true},"data":3}`,
	}
	w.sends(append([]string{`{"action":"subscribe","topic":"a"}`}, kept...)...)

	// What was not written when the connection ends is kept for the next one.
	w.must(w.s.Publish("a", []byte(`1`)))
	w.must(w.s.Publish("a", []byte(`2`)))
	w.must(w.s.Send(&Publication{Kind: ToServer, Target: "h:1", Data: []byte(`3`), Secure: true}))
	w.link.Lost(w.now, "gone")
	w.pass(time.Second)
	w.told()
	w.s.emit(ConnectNeeded{})
	w.open()
	w.says(`{"action":"pong","id":"me","proto":2,"limits":{"max_message":60}}`)
	w.sends(`{"action":"subscribe","topic":"a"}`, `{"action":"publish","topic":"a","data":1}`,
		`{"action":"publish","topic":"a","data":2}`)
	told := w.told()
	if len(told) != 2 || !strings.Contains(told[1], "kept is dropped") || w.s.Dropped != 1 {
		t.Error(told, w.s.Dropped)
	}
}

func TestDroppedIsCounted(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.must(w.s.Publish("a", []byte(`1`)))
	w.must(w.s.Publish("a", []byte(`2`)))
	output := w.link.Output(nil, 1<<20)
	w.must(w.s.Publish("a", []byte(`3`)))
	w.link.Unwritten(len(output) - 1) // of a frame with two of them the last byte is missing
	w.link.Lost(w.now, "gone")
	if told := w.told(); w.s.Dropped != 3 || !strings.Contains(told[0], "dropped 3") {
		t.Error(w.s.Dropped, told)
	}
}

func TestReconnecting(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.link.Lost(w.now, "gone")
	w.wants("disconnected 1006, again in 250ms, dropped 0")
	for _, wait := range []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		w.pass(30 * time.Second)
		w.wants("needed")
		w.s.ConnectFailed("no route", w.now)
		w.wants(fmt.Sprintf("failed: no route, again in %v", wait*time.Millisecond))
	}
	w.pass(30 * time.Second)
	w.connect(fullPong)
	// The waits start anew, but not behind connections that soon end, from the fourth one on.
	for _, wait := range []int{250, 250, 250, 500, 1000, 2000} {
		w.closes(1001)
		w.wants(fmt.Sprintf("disconnected 1001, again in %v, dropped 0", time.Duration(wait)*time.Millisecond))
		w.pass(30 * time.Second)
		w.connect(fullPong)
	}
	w.pass(30 * time.Second)
	w.says(`{}`) // a sign of life
	w.closes(1001)
	w.wants("disconnected 1001, again in 250ms, dropped 0")
}

func TestWaitsAreRandom(t *testing.T) {
	w := newWorld(t, nil)
	w.told()
	w.chance = 1 << 31
	w.s.ConnectFailed("x", 0)
	w.wants("failed: x, again in 187.5ms")
}

func TestNotComingBack(t *testing.T) {
	for _, code := range []int{4001, 4003} {
		w := connected(t, fullPong, nil)
		w.closes(code)
		w.wants(fmt.Sprintf("disconnected %d, again in 0s, dropped 0", code),
			fmt.Sprintf("ended with %d: the connection ended: code %d", ConnectionLost, code))
		if w.s.Deadline() != never {
			t.Error("something is due")
		}
		w.fails(w.s.Publish("a", []byte(`1`)), ClientClosed)
	}
}

func TestHTTPRefusals(t *testing.T) {
	refuse := func(w *world, status int) []string {
		w.told()
		w.link = w.s.Connected("", w.now)
		w.link.Receive(fmt.Appendf(nil, "HTTP/1.1 %d No\r\n\r\n", status), w.now)
		return w.told()
	}
	for status, isFinal := range map[int]bool{
		400: true, 401: true, 403: true, 404: true, 408: false, 429: false, 500: false, 503: false,
	} {
		w := newWorld(t, nil)
		if told := refuse(w, status); strings.HasPrefix(told[0], "ended") != isFinal {
			t.Error(status, told)
		}
	}
	w := newWorld(t, func(c *Config) { c.TokenMayChange = true })
	if told := refuse(w, 401); !strings.HasPrefix(told[0], "failed") {
		t.Error(told)
	}
	w = connected(t, fullPong, nil)
	w.link.Lost(w.now, "gone")
	w.pass(time.Second)
	if told := refuse(w, 404); !strings.HasPrefix(told[0], "failed") {
		t.Error("after a connection any status may be that of a proxy:", told)
	}
	w.pass(time.Second)
	if told := refuse(w, 403); !strings.HasPrefix(told[0], "ended") {
		t.Error(told)
	}
}

func TestRefusedRegistration(t *testing.T) {
	w := newWorld(t, nil)
	w.open()
	w.says(`{"action":"error","error":"no","code":"forbidden","request":"ping"}`)
	w.wants(fmt.Sprintf("ended with %d: the server refused this client: no", ServerError))
	if frames := w.frames(); len(frames) != 1 || frames[0][0] != "8" || !strings.HasPrefix(frames[0][1], "\x03\xf0") {
		t.Errorf("%q", frames)
	}
	w = newWorld(t, nil)
	w.open()
	w.says(`{"action":"error","error":"later","code":"unavailable","request":"ping"}`)
	if told := w.told(); !strings.HasPrefix(told[0], "failed") {
		t.Error(told)
	}
	w = newWorld(t, nil)
	w.open()
	w.closes(1009)
	if told := w.told(); !strings.Contains(told[0], "its id is too long") {
		t.Error(told)
	}
}

func TestTimesOfConnecting(t *testing.T) {
	w := newWorld(t, nil)
	w.told()
	w.link = w.s.Connected("", 0)
	w.pass(10 * time.Second)
	if told := w.told(); !strings.Contains(told[0], "handshake in time") {
		t.Error(told)
	}
	w.pass(time.Second)
	w.open()
	w.pass(10 * time.Second)
	if told := w.told(); !strings.Contains(told[0], "first ping in time") {
		t.Error(told)
	}
}

func TestHeartbeat(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.pass(24 * time.Second)
	w.sends()
	w.pass(time.Second)
	w.sends("9:")
	w.frame(ws.Pong, "")
	w.pass(25 * time.Second)
	w.sends("9:")
	w.pass(19 * time.Second)
	w.sends()
	w.pass(time.Second)
	if told := w.told(); !strings.HasPrefix(told[0], "disconnected 1006") {
		t.Error(told)
	}
}

// Whoever stood still may not have read what the server sent meanwhile.
func TestHeartbeatAfterStandingStill(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.pass(25 * time.Second)
	w.sends("9:")
	w.now += time.Minute
	w.s.Tick(w.now)
	w.sends("9:")
	w.wants()
	w.now += time.Minute
	w.s.Tick(w.now)
	if told := w.told(); !strings.HasPrefix(told[0], "disconnected 1006") {
		t.Error(told)
	}
}

// While the client does not read, silence means nothing, and it still shows that it is alive.
func TestHeartbeatWithoutReading(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.link.SetReading(false, w.now)
	for range 5 {
		w.pass(25 * time.Second)
		w.sends("9:")
	}
	w.link.SetReading(true, w.now)
	w.pass(24 * time.Second)
	w.sends()
	w.pass(20 * time.Second)
	w.sends("9:")
	w.wants()
}

func TestPingsAndCloseFramesAreAnswered(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.frame(ws.Ping, "abc")
	w.frame(ws.Ping, "def") // the latest one is enough
	w.sends("a:def")
	w.closes(1001)
	w.sends("8:\x03\xe9")
	w.wants("disconnected 1001, again in 250ms, dropped 0")
}

func TestFaultsOfTheServer(t *testing.T) {
	for frame, code := range map[string]string{
		"\xc1\x00":         "\x03\xea",
		"\x81\x01\xff":     "\x03\xef",
		"\x88\x01a":        "\x03\xea",
		"\x88\x02\x00\x01": "\x03\xea",
	} {
		w := connected(t, fullPong, nil)
		w.link.Receive([]byte(frame), w.now)
		if frames := w.frames(); len(frames) != 1 || !strings.HasPrefix(frames[0][1], code) {
			t.Errorf("%q: %q", frame, frames)
		}
		w.says(`{"action":"publish","topic":"a","data":1}`) // nothing after it counts
		if told := w.told(); !strings.HasPrefix(told[0], "disconnected") {
			t.Error(told)
		}
	}
}

func TestClosing(t *testing.T) {
	w := connected(t, fullPong, nil)
	q, _ := w.s.Flush(w.now, nil)
	w.must(w.s.Publish("a", []byte(`1`)))
	w.s.Close(5*time.Second, w.now)
	w.fails(q.Err, ClientClosed)
	w.fails(w.s.Publish("a", []byte(`2`)), ClientClosed)
	sent := w.sent()
	if len(sent) != 3 || sent[1] != `{"action":"publish","topic":"a","data":1}` || sent[2] != "8:\x03\xe8" {
		t.Errorf("%q", sent)
	}
	w.closes(1000)
	w.wants("ended")

	w = connected(t, fullPong, nil)
	w.s.Close(5*time.Second, w.now)
	w.pass(5 * time.Second)
	w.wants("ended")

	w = newWorld(t, nil)
	w.s.Close(5*time.Second, w.now)
	w.wants("needed", "ended")
}

func TestTokens(t *testing.T) {
	w := newWorld(t, nil)
	w.told()
	w.link = w.s.Connected("secret", 0)
	if request := string(w.link.Output(nil, 1<<20)); !strings.Contains(request, "\r\nAuthorization: Bearer secret\r\n") {
		t.Errorf("%q", request)
	}
}
