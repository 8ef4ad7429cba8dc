package core

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"kps.internal/kps/internal/ws"
)

// world is a client, a server that the test plays, and the time.
type world struct {
	t      *testing.T
	s      *Session
	link   *Link
	now    Time
	events []string
	chance uint32
	ackID  string // of a request that waits
}

const fullPong = `{"action":"pong","id":"me","proto":2,"limits":{"max_message":1048576},` +
	`"features":["patterns","history","expect","presence","groups","headers","message_ids"],` +
	`"message_ids":{"window":"w","seconds":120,"most":10000,"time":1000}}`

const oldPong = `{"action":"pong","id":"me"}`

func newWorld(t *testing.T, change func(*Config)) *world {
	w := &world{t: t}
	backoff := DefaultBackoff
	config := Config{ID: "me", Host: "h:1", Target: "/ws/bus", Level: 2, Reconnect: &backoff,
		TakesDirect: true, Limits: DefaultLimits, Random: func() uint32 { return w.chance }}
	if change != nil {
		change(&config)
	}
	w.s = New(config, 0)
	return w
}

// connected returns a client that is connected.
func connected(t *testing.T, pong string, change func(*Config)) *world {
	w := newWorld(t, change)
	w.connect(pong)
	w.told()
	return w
}

// open opens a connection, and returns the client's first message.
func (w *world) open() string {
	w.t.Helper()
	w.wants("needed")
	w.link = w.s.Connected("", w.now)
	request := string(w.link.Output(nil, 1<<20))
	if !strings.HasPrefix(request, "GET /ws/bus HTTP/1.1\r\nHost: h:1\r\n") {
		w.t.Fatalf("%q", request)
	}
	// The key consists of zeros, as the test's random numbers are.
	accept := "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
	w.link.Receive([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n"), w.now)
	return strings.Join(w.sent(), " ")
}

func (w *world) connect(pong string) {
	w.t.Helper()
	w.open()
	w.says(pong)
	w.told()
}

// again ends the connection, and makes another one.
func (w *world) again(pong string) {
	w.t.Helper()
	w.link.Lost(w.now, "gone")
	for w.pass(time.Second); !strings.HasSuffix(strings.Join(w.told(), " "), "needed"); w.pass(time.Second) {
	}
	w.s.emit(ConnectNeeded{})
	w.open()
	w.says(pong)
	w.told()
}

// says has the server send messages, each in a frame.
func (w *world) says(messages ...string) {
	for _, message := range messages {
		w.frame(ws.Text, message)
	}
}

func (w *world) frame(opcode byte, payload string) {
	data := []byte{0x80 | opcode}
	switch size := len(payload); {
	case size <= 125:
		data = append(data, byte(size))
	case size <= 0xFFFF:
		data = append(data, 126, byte(size>>8), byte(size))
	default:
		data = binary.BigEndian.AppendUint64(append(data, 127), uint64(size))
	}
	w.link.Receive(append(data, payload...), w.now)
}

func (w *world) closes(code int) {
	w.frame(ws.Close, string([]byte{byte(code >> 8), byte(code)}))
}

// pass lets time pass, with everything that becomes due.
func (w *world) pass(d time.Duration) {
	end := w.now + d
	for due := w.s.Deadline(); due <= end; due = w.s.Deadline() {
		w.now = max(w.now, due)
		w.s.Tick(w.now)
	}
	w.now = end
	w.s.Tick(w.now)
}

// frames returns what the client has written: opcode and payload of each frame.
func (w *world) frames() [][2]string {
	data := w.link.Output(nil, 1<<30)
	var frames [][2]string
	for len(data) > 0 {
		size, head := int(data[1]&0x7F), 2
		switch size {
		case 126:
			size, head = int(binary.BigEndian.Uint16(data[2:])), 4
		case 127:
			size, head = int(binary.BigEndian.Uint64(data[2:])), 10
		}
		key := binary.LittleEndian.Uint32(data[head:])
		payload := data[head+4 : head+4+size]
		ws.Mask(payload, key)
		frames = append(frames, [2]string{fmt.Sprintf("%x", data[0]&0xF), string(payload)})
		data = data[head+4+size:]
	}
	return frames
}

// sent returns the messages that the client has sent since the last call. Arrays are taken apart.
func (w *world) sent() []string {
	w.t.Helper()
	var messages []string
	for _, frame := range w.frames() {
		if frame[0] != "1" {
			messages = append(messages, frame[0]+":"+frame[1])
			continue
		}
		text := []byte(frame[1])
		if !json.Valid(text) {
			w.t.Fatalf("not JSON: %s", text)
		}
		if text[0] != '[' {
			messages = append(messages, frame[1])
			continue
		}
		for element := range elements(text) {
			messages = append(messages, string(element))
		}
	}
	return messages
}

// sends checks what the client has sent. Names of questions are left out of account: they are
// written as NAME, and the last one is returned.
func (w *world) sends(want ...string) string {
	w.t.Helper()
	got := w.sent()
	name := ""
	for i := range got {
		for _, prefix := range []string{"client_ack_me_", "receipt_", "barrier_me_", "history_", "presence_", "probe_me_"} {
			if begin := strings.Index(got[i], `"`+prefix); begin >= 0 {
				end := begin + 1 + strings.IndexByte(got[i][begin+1:], '"')
				name = got[i][begin+1 : end]
				got[i] = got[i][:begin+1] + "NAME" + got[i][end:]
				break
			}
		}
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		w.t.Fatalf("sent\n  %s\ninstead of\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	return name
}

// told returns what the client has told since the last call.
func (w *world) told() []string {
	for _, event := range w.s.Events() {
		w.events = append(w.events, inWords(event))
	}
	told := w.events
	w.events = nil
	return told
}

func inWords(event Event) string {
	switch e := event.(type) {
	case ConnectNeeded:
		return "needed"
	case AttemptFailed:
		return fmt.Sprintf("failed: %s, again in %v", e.Reason, e.RetryIn)
	case Connected:
		return fmt.Sprintf("connected %s %v", e.ID, e.Again)
	case Disconnected:
		return fmt.Sprintf("disconnected %d, again in %v, dropped %d", e.Code, e.RetryIn, e.Dropped)
	case Refused:
		return fmt.Sprintf("refused %d %s: %s", e.Error.Kind, e.Error.Code, e.Error.Text)
	case Recovered:
		return fmt.Sprintf("recovered %d of %s", e.Messages, e.Topic)
	case Lost:
		return fmt.Sprintf("lost %d of %s", e.Messages, e.Topic)
	case PresenceChanged:
		return fmt.Sprintf("members %v of %d, joined %v, updated %v, left %v, for %d", textsOf(e.Presence.Members),
			e.Presence.Count, textsOf(e.Presence.Joined), textsOf(e.Presence.Updated), e.Presence.Left, len(e.Observers))
	case Overflowed:
		return "overflowed " + e.Subscription.Key.Topic
	case Frame:
		return "frame " + string(e.Data)
	case Ended:
		if e.Error == nil {
			return "ended"
		}
		return fmt.Sprintf("ended with %d: %s", e.Error.Kind, e.Error.Text)
	}
	return fmt.Sprintf("%T", event)
}

func textsOf(values map[string][]byte) map[string]string {
	texts := make(map[string]string)
	for name, value := range values {
		texts[name] = string(value)
	}
	return texts
}

// wants checks what the client has told.
func (w *world) wants(want ...string) {
	w.t.Helper()
	if got := w.told(); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		w.t.Fatalf("told\n  %s\ninstead of\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// subscribe subscribes, and has the server confirm it if it is asked.
func (w *world) subscribe(key Key, wanted *Wanted) *Subscription {
	w.t.Helper()
	sub := &Subscription{Key: key}
	w.must(w.s.Subscribe(sub, wanted, false, w.now))
	return sub
}

func (w *world) live(topic string) *Subscription {
	w.t.Helper()
	sub := w.subscribe(Key{Topic: topic}, &Wanted{})
	w.sent()
	w.says(fmt.Sprintf(`{"action":"subscribed","topic":%q}`, topic))
	return sub
}

func (w *world) must(err *Error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fails(err *Error, kind Kind) {
	w.t.Helper()
	if err == nil || err.Kind != kind {
		w.t.Fatalf("%v instead of an error of kind %d", err, kind)
	}
}

func (w *world) takeAll(sub *Subscription) (taken []Message) {
	for sub.Waiting() > 0 {
		taken = w.s.Take(taken, sub, 1<<20)
	}
	return taken
}

// gets checks the messages of a subscription: topic, sender, payload and, if it has one, offset.
func (w *world) gets(sub *Subscription, want ...string) []Message {
	w.t.Helper()
	taken := w.takeAll(sub)
	var got []string
	for _, m := range taken {
		text := fmt.Sprintf("%s %s %s", m.Topic, m.From, m.Data)
		if m.Offset > 0 {
			text += fmt.Sprintf(" %s:%d", m.Epoch, m.Offset)
		}
		if m.Headers != nil {
			text += " " + string(m.Headers)
		}
		got = append(got, text)
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		w.t.Fatalf("got\n  %s\ninstead of\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	return taken
}
