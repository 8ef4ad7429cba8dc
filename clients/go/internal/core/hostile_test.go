package core

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// busy returns a client of which something of each kind waits for an answer.
func busy(t *testing.T, pong string) *world {
	w := connected(t, pong, func(c *Config) { c.ReportsFrames = true })
	sub := &Subscription{Key: Key{Topic: "t"}, Observes: strings.Contains(pong, "presence")}
	w.must(w.s.Subscribe(sub, &Wanted{}, false, w.now))
	if strings.Contains(pong, "patterns") {
		w.subscribe(Key{Topic: "**", IsPattern: true}, &Wanted{})
		w.subscribe(Key{Topic: "t", Group: "g"}, &Wanted{})
		_, err := w.s.AskPast("t", nil, w.now, nil)
		w.must(err)
		_, err = w.s.AskPresence("t", w.now, nil)
		w.must(err)
	}
	q := w.ask(Request{Target: "t"})
	w.ackID = q.ID()
	_, err := w.s.AskStatus(q, w.now, nil)
	w.must(err)
	_, err = w.s.PublishWithReceipt(&Request{Target: "t", Data: null}, w.now, nil)
	w.must(err)
	_, err = w.s.Flush(w.now, nil)
	w.must(err)
	w.sent()
	return w
}

// holds checks what must be so whatever the server does.
func (w *world) holds() {
	w.t.Helper()
	for _, frame := range w.frames() {
		if frame[0] == "1" && !json.Valid([]byte(frame[1])) {
			w.t.Errorf("sent %s", frame[1])
		}
	}
	for _, event := range w.s.Events() {
		switch e := event.(type) {
		case Frame:
			if !json.Valid(e.Data) {
				w.t.Errorf("reported %s", e.Data)
			}
		case Refused:
			if len(e.Error.Text) > 10_000 {
				w.t.Error("a long text")
			}
		case Lost:
			if e.Messages < -1 {
				w.t.Error(e)
			}
		}
	}
	for key, subs := range w.s.subs.byKey {
		for _, sub := range subs {
			for _, m := range w.takeAll(sub) {
				if !json.Valid(m.Data) || m.Headers != nil && !json.Valid(m.Headers) || m.Offset < 0 || m.Attempt < 1 {
					w.t.Errorf("%v got %+v", key, m)
				}
				w.s.Settle(m.Ack, Outcome{}, w.now)
			}
		}
	}
	if w.s.asking.size < 0 || len(w.s.asking.acks) > len(w.s.asking.byName) || len(w.s.topics.standings.topics) > mostPlaces {
		w.t.Error("a count is wrong")
	}
}

var hostileValues = []string{
	`null`, `5`, `-1`, `1e308`, `1.5`, `9007199254740993`, `true`, `false`, `""`, `"t"`, `[]`, `[null]`, `[[]]`, `[{}]`, `{}`,
	`{"t":5}`, `{"bob":{"success":1,"error":2,"result":{},"ack_id":3}}`, `[{"id":5},{"id":"x","info":1,"reason":7}]`,
	`{"epoch":"e","offset":1}`, `[{"offset":1,"data":{}},{"offset":-1},7]`, `[{"request":"subscribe","topic":"t"},{"topic":7},1]`,
	`[{"topic":"t","group":"g","attempts":-5,"failures":[1,{"member":2}]}]`,
	`"` + strings.Repeat("x", 5000) + `"`, strings.Repeat("[", 130) + strings.Repeat("]", 130),
}

var hostileFields = []string{
	"topic", "pattern", "data", "batch", "from", "id", "proto", "limits", "features", "message_ids", "nonce", "receipt",
	"delivered", "ack_id", "responses", "missing", "status", "error", "code", "request", "to", "refused", "complete",
	"epoch", "offset", "mark", "coming", "recovered", "lost", "messages", "presence", "members", "joined", "left", "count",
	"version", "group", "groups", "attempt", "headers", "action",
}

var actions = []string{
	"publish", "publish_ack", "direct_message", "pong", "subscribed", "unsubscribed", "published", "ack_update",
	"ack_response", "ack_status", "error", "history", "presence", "unknown",
}

// Each field of each message with a value of each kind.
func TestFieldsOfTheWrongKind(t *testing.T) {
	for _, pong := range []string{fullPong, oldPong} {
		for _, action := range actions {
			for _, field := range hostileFields {
				w := busy(t, pong)
				nonce := map[string]string{"history": "history_1", "presence": "presence_2"}[action]
				for _, value := range hostileValues {
					w.says(fmt.Sprintf(`{"action":%q,"topic":"t","data":1,"from":"bob","ack_id":%q,"receipt":"receipt_4","nonce":%q,`+
						`"error":"x","request":"subscribe","offset":3,%q:%s}`, action, w.ackID, nonce, field, value))
				}
				w.holds()
				if !w.s.IsReady() {
					t.Fatalf("%s with %s has ended the connection", action, field)
				}
				w.pass(time.Minute)
				w.holds()
			}
		}
	}
}

// Whatever a server says, before and after it has registered the client.
func FuzzServer(f *testing.F) {
	f.Add(`{"action":"publish","topic":"t","batch":[1,2],"offset":5,"epoch":"e"}`, true)
	f.Add(`[{"action":"subscribed","topic":"t","epoch":"e","offset":5,"coming":1,"recovered":false,"lost":3,`+
		`"presence":{"count":1,"members":[{"id":"a","info":{}}]}},{"action":"publish_ack","ack_id":"q","data":1}]`, true)
	f.Add(`{"action":"ack_response","ack_id":"client_ack_me_3","responses":{"bob":{"success":true}},"missing":["x"],`+
		`"groups":[{"topic":"t","group":"g","attempts":2,"failures":[{"member":"a","error":"b"}]}]}`, true)
	f.Add(`{"action":"error","error":"x","code":"limit_reached","refused":[{"request":"subscribe","topic":"t"}]}`, true)
	f.Add(`{"action":"history","nonce":"history_1","messages":[{"offset":1,"data":1}],"epoch":"e","coming":2}`, true)
	f.Add(`{"action":"publish","topic":"t","data":{"data":1,"from":"x"}}`, false)
	f.Add(`{"error":"x"}`, false)
	f.Add(fullPong, false)
	f.Fuzz(func(t *testing.T, text string, isNew bool) {
		pong := oldPong
		if isNew {
			pong = fullPong
		}
		w := busy(t, pong)
		w.frame(1, text)
		if w.link.state == open {
			w.says(`{"action":"subscribed","topic":"t"}`, `{"action":"publish","topic":"t","from":"b","data":7}`)
		}
		w.holds()
		w.pass(time.Minute)
		w.holds()

		w = newWorld(t, nil)
		w.open()
		w.frame(1, text)
		w.holds()
		w.pass(time.Minute)
	})
}
