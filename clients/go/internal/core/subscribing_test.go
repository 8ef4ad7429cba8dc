package core

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSubscribing(t *testing.T) {
	w := connected(t, fullPong, nil)
	one := w.subscribe(Key{Topic: "a"}, &Wanted{})
	two := w.subscribe(Key{Topic: "a"}, &Wanted{}) // is one for the server
	w.sends(`{"action":"subscribe","topic":"a"}`)
	if w.s.IsSettled(one) {
		t.Error("it is not confirmed")
	}
	w.says(`{"action":"subscribed","topic":"a"}`)
	if !w.s.IsSettled(one) || !w.s.IsSettled(two) {
		t.Error("it is confirmed")
	}
	w.says(`{"action":"publish","topic":"a","from":"bob","data":{"x":1}}`,
		`[{"action":"publish","topic":"a","from":"bob","batch":[1,2]},{"action":"publish","topic":"b","from":"bob","data":3}]`,
		`{"action":"publish","topic":"a","from":"bob","headers":{"h":"1"}}`)
	for _, sub := range []*Subscription{one, two} {
		w.gets(sub, `a bob {"x":1}`, "a bob 1", "a bob 2", `a bob null {"h":"1"}`)
	}
	w.s.Unsubscribe(one, w.now)
	w.sends()
	w.s.Unsubscribe(two, w.now)
	w.s.Unsubscribe(two, w.now)
	w.sends(`{"action":"unsubscribe","topic":"a"}`)
	w.says(`{"action":"publish","topic":"a","from":"bob","data":1}`, `{"action":"unsubscribed","topic":"a"}`)
	w.gets(two)
	if len(w.s.topics.byKey)+len(w.s.subs.byKey) > 0 {
		t.Error("something is left")
	}
}

// Payloads are copies: the bytes of a frame are used again.
func TestPayloadsOutliveTheirFrame(t *testing.T) {
	w := connected(t, fullPong, nil)
	sub := w.live("a")
	frame := []byte("\x81\x3a" + `{"action":"publish","topic":"a","from":"b","batch":[10,[2]]`[:58])
	frame = append(frame[:2], `{"action":"publish","topic":"a","from":"b","batch":[10,22]}`...)
	frame[1] = byte(len(frame) - 2)
	w.link.Receive(frame, 0)
	for i := range frame {
		frame[i] = 'x'
	}
	messages := w.gets(sub, "a b 10", "a b 22")
	_ = append(messages[0].Data, "99"...)
	if string(messages[1].Data) != "22" {
		t.Error("they overlap")
	}
}

func TestLevel1Deliveries(t *testing.T) {
	w := connected(t, oldPong, nil)
	sub := w.live("a")
	w.says(`{"action":"publish","topic":"a","data":{"data":1,"from":"bob"}}`,
		`{"action":"publish","topic":"a","data":{"from":"x","data":{"data":2}}}`,
		`{"action":"publish","topic":"a","data":[3],"from":"carol"}`,
		`{"action":"publish","topic":"a"}`,
		`[{"action":"publish","topic":"a","data":{"data":4,"from":"bob"}}]`)
	w.gets(sub, "a bob 1", `a x {"data":2}`, "a carol [3]", "a  null", "a bob 4")
}

func TestPatterns(t *testing.T) {
	w := connected(t, fullPong, nil)
	topic := w.live("a/b")
	wide := w.subscribe(Key{Topic: "a/*", IsPattern: true}, &Wanted{})
	text := w.subscribe(Key{Topic: "a/*"}, &Wanted{})
	w.sends(`{"action":"subscribe","pattern":"a/*"}`, `{"action":"subscribe","topic":"a/*"}`)
	w.says(`{"action":"subscribed","pattern":"a/*"}`)
	if !w.s.IsSettled(wide) || w.s.IsSettled(text) {
		t.Error("a text is no pattern")
	}
	for _, name := range []string{"a/b", "a/b/c", "a/*", "a/"} {
		w.says(fmt.Sprintf(`{"action":"publish","topic":%q,"from":"x","data":1}`, name))
	}
	w.gets(topic, "a/b x 1")
	w.gets(wide, "a/b x 1", "a/* x 1", "a/ x 1")
	w.gets(text, "a/* x 1")
	w.s.Unsubscribe(wide, w.now)
	w.sends(`{"action":"unsubscribe","pattern":"a/*"}`)
	w.says(`{"action":"publish","topic":"a/c","from":"x","data":1}`)
	w.gets(wide)
}

func TestMissingFeatures(t *testing.T) {
	w := connected(t, oldPong, nil)
	subscribe := func(key Key, wanted *Wanted) *Error {
		return w.s.Subscribe(&Subscription{Key: key}, wanted, false, w.now)
	}
	w.fails(subscribe(Key{Topic: "a", IsPattern: true}, &Wanted{}), Unsupported)
	w.fails(subscribe(Key{Topic: "a", Group: "g"}, &Wanted{}), Unsupported)
	w.fails(subscribe(Key{Topic: "a"}, &Wanted{Start: &Start{Last: 1}}), Unsupported)
	w.fails(subscribe(Key{Topic: "a"}, &Wanted{Info: []byte(`{}`)}), Unsupported)
	w.fails(w.s.Send(&Publication{Target: "a", Data: null, Headers: []byte(`{"a":"b"}`)}), Unsupported)
	for _, r := range []Request{{Expect: []string{"a"}}, {Key: "k"}, {Retry: 1}, {MessageID: "m"}, {ExpectGroups: []string{"g"}}} {
		r.Target, r.Data, r.Timeout = "a", null, time.Second
		_, err := w.s.Ask(&r, w.now, nil)
		w.fails(err, Unsupported)
	}
	_, err := w.s.AskPresence("a", w.now, nil)
	w.fails(err, Unsupported)
	_, err = w.s.AskPast("a", nil, w.now, nil)
	w.fails(err, Unsupported)
	w.sends()
}

func TestWhatDoesNotFitTogether(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.live("a")
	w.subscribe(Key{Topic: "a", Group: "g"}, &Wanted{Concurrency: 2})
	w.sends(`{"action":"subscribe","topic":"a","group":"g","concurrency":2}`)
	for name, test := range map[string]struct {
		key    Key
		wanted Wanted
	}{
		"a member twice":           {Key{Topic: "a", Group: "g"}, Wanted{}},
		"the past of a known one":  {Key{Topic: "a"}, Wanted{Start: &Start{Last: 1}}},
		"of a pattern that has it": {Key{Topic: "*", IsPattern: true}, Wanted{Start: &Start{Last: 1}}},
		"concurrency":              {Key{Topic: "b"}, Wanted{Concurrency: 2}},
		"the past of a group":      {Key{Topic: "b", Group: "g"}, Wanted{Start: &Start{Last: 1}}},
		"presence of a pattern":    {Key{Topic: "b", IsPattern: true}, Wanted{Info: []byte(`{}`)}},
		"since for a pattern":      {Key{Topic: "b", IsPattern: true}, Wanted{Start: &Start{Since: &Position{}}}},
	} {
		if err := w.s.Subscribe(&Subscription{Key: test.key}, &test.wanted, false, w.now); err == nil || err.Kind != InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.sends()
}

func TestRefusedSubscriptions(t *testing.T) {
	w := connected(t, fullPong, nil)
	sub := w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.says(`{"action":"error","error":"no","code":"forbidden","request":"subscribe","topic":"a"}`)
	w.fails(sub.Err, ServerError)
	w.wants(fmt.Sprintf("refused %d forbidden: no", ServerError))

	awaited := &Subscription{Key: Key{Topic: "a"}}
	w.must(w.s.Subscribe(awaited, &Wanted{}, true, w.now))
	w.says(`{"action":"error","error":"no","code":"forbidden","request":"subscribe","topic":"a"}`)
	w.fails(awaited.Err, ServerError)
	w.wants() // who waits gets the error

	w.subscribe(Key{Topic: "p*", IsPattern: true}, &Wanted{})
	w.says(`{"action":"error","error":"no","code":"forbidden","request":"subscribe","pattern":"p*"}`)
	w.wants(fmt.Sprintf("refused %d forbidden: no", ServerError))
	if len(w.s.topics.byKey) > 0 {
		t.Error("something is left")
	}
}

func TestTemporaryRefusals(t *testing.T) {
	w := connected(t, fullPong, nil)
	refuse := func(topic, code string) {
		w.says(fmt.Sprintf(`{"action":"error","error":"later","code":%q,"request":"subscribe","topic":%q}`, code, topic))
	}
	w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.sent()
	for _, wait := range []time.Duration{500, 1000, 2000} {
		refuse("a", "unavailable")
		w.pass(wait*time.Millisecond - 1)
		w.sends()
		w.pass(1)
		w.sends(`{"action":"subscribe","topic":"a"}`)
	}
	if told := w.told(); len(told) != 1 { // once for each topic and connection
		t.Error(told)
	}
	w.says(`{"action":"subscribed","topic":"a"}`)
	b := w.subscribe(Key{Topic: "b"}, &Wanted{})
	refuse("b", "limit_reached") // is final for what was never in force
	w.fails(b.Err, ServerError)
	c := w.subscribe(Key{Topic: "c"}, &Wanted{})
	refuse("c", "rate_limited")
	w.s.Unsubscribe(c, w.now) // is not asked for again
	w.told()
	w.sent()
	w.pass(time.Minute)
	for _, one := range w.sent() {
		if strings.Contains(one, `"subscribe"`) {
			t.Error(one)
		}
	}
	// But limit_reached is not final for what was in force before.
	w.says(`{"action":"unsubscribed","topic":"c"}`)
	w.again(fullPong)
	w.sends(`{"action":"subscribe","topic":"a"}`)
	refuse("a", "limit_reached")
	w.wants(fmt.Sprintf("refused %d limit_reached: later", ServerError))
	w.pass(time.Second)
	w.sends(`{"action":"subscribe","topic":"a"}`)
}

// To ask for all that was refused at once would have most of it refused again.
func TestRefusedTopicsAreAskedForBitByBit(t *testing.T) {
	w := connected(t, fullPong, nil)
	for i := range 300 {
		w.subscribe(Key{Topic: fmt.Sprint(i)}, &Wanted{})
		w.says(fmt.Sprintf(`{"action":"error","error":"x","code":"rate_limited","request":"subscribe","topic":"%d"}`, i))
	}
	w.sent()
	confirmed := 0
	for range 300 {
		w.pass(time.Second)
		for _, one := range w.sent() {
			if topic, found := strings.CutPrefix(one, `{"action":"subscribe","topic":`); found {
				w.says(`{"action":"subscribed","topic":` + topic)
				confirmed++
			} else {
				w.frame(10, "")
			}
		}
	}
	if confirmed != 300 {
		t.Error(confirmed)
	}
}

// A server on level 1 may have refused a topic, and its errors do not name it.
func TestSubscriptionsWithoutAnAnswer(t *testing.T) {
	w := connected(t, fullPong, nil)
	sub := w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.sent()
	w.pass(10*time.Second + 500*time.Millisecond)
	w.sends(`{"action":"subscribe","topic":"a"}`)
	w.says(`{"action":"subscribed","topic":"a"}`)
	if !w.s.IsSettled(sub) {
		t.Error("it is confirmed")
	}
	w.pass(5 * time.Minute)
	for _, one := range w.sent() {
		if !strings.HasPrefix(one, "9:") {
			t.Error(one)
		}
	}
}

func TestRefusalsOfLevel1(t *testing.T) {
	w := connected(t, oldPong, nil)
	a, b := w.subscribe(Key{Topic: "a"}, &Wanted{}), w.subscribe(Key{Topic: "b"}, &Wanted{})
	w.sends(`{"action":"subscribe","topic":"a","from":"me"}`, `{"action":"subscribe","topic":"b","from":"me"}`)
	w.says(`{"action":"error","error":"no"}`, `{"action":"subscribed","topic":"b"}`)
	w.fails(a.Err, ServerError)
	if a.Err.Topic != "a" || !w.s.IsSettled(b) {
		t.Error(a.Err)
	}
	w.told()
	// What has no answer of its own makes it uncertain: a probe finds out.
	w.must(w.s.Send(&Publication{Kind: ToID, Target: "nobody", Data: null}))
	c := w.subscribe(Key{Topic: "c"}, &Wanted{})
	w.sent()
	w.says(`{"action":"error","error":"no client has the id nobody"}`)
	w.wants(fmt.Sprintf("refused %d : no client has the id nobody", ServerError))
	probe := w.sends(`{"action":"get_ack_status","ack_id":"NAME","from":"me"}`)
	w.says(`{"action":"error","error":"forbidden"}`)
	w.says(fmt.Sprintf(`{"action":"ack_status","ack_id":%q}`, probe))
	w.fails(c.Err, ServerError)
	if c.Err.Text != "forbidden" || b.Err != nil {
		t.Error(c.Err, b.Err)
	}
	// An error without an action is one, as early servers write it.
	d := w.subscribe(Key{Topic: "d"}, &Wanted{})
	w.says(`{"error":"too many messages in too short a time"}`)
	if d.Err != nil {
		t.Error("it may be asked again:", d.Err)
	}
}

// -- history

func TestResuming(t *testing.T) {
	w := connected(t, fullPong, nil)
	a := w.subscribe(Key{Topic: "a"}, &Wanted{Start: &Start{Last: 2}})
	p := w.subscribe(Key{Topic: "p/*", IsPattern: true}, &Wanted{})
	w.sends(`{"action":"subscribe","topic":"a","last":2}`, `{"action":"subscribe","pattern":"p/*"}`)
	w.says(`{"action":"subscribed","topic":"a","epoch":"e","offset":5,"coming":2}`,
		`{"action":"subscribed","pattern":"p/*","epoch":"e","mark":100,"coming":0}`,
		`{"action":"publish","topic":"a","from":"b","batch":[6,7],"offset":6}`,
		`{"action":"publish","topic":"p/1","from":"b","data":1,"offset":3}`,
		`{"action":"publish","topic":"p/2","from":"b","data":1,"offset":4,"epoch":"f"}`)
	w.gets(a, "a b 6 e:6", "a b 7 e:7")
	w.gets(p, "p/1 b 1 e:3", "p/2 b 1 f:4")
	w.again(fullPong)
	sent := w.sent()
	if len(sent) != 2 || sent[0] != `{"action":"subscribe","topic":"a","since":{"epoch":"e","offset":7}}` ||
		!strings.HasPrefix(sent[1], `{"action":"subscribe","pattern":"p/*","since":{"epoch":"e","mark":100,"topics":{"p/`) ||
		!strings.Contains(sent[1], `"p/1":{"epoch":"e","offset":3}`) || !strings.Contains(sent[1], `"p/2":{"epoch":"f","offset":4}`) {
		t.Error(sent)
	}
	w.says(`{"action":"subscribed","topic":"a","epoch":"e","offset":7,"coming":2,"recovered":true}`,
		`{"action":"subscribed","pattern":"p/*","epoch":"e","mark":200,"coming":0,"recovered":false,"lost":4}`)
	w.wants("recovered 2 of a", "lost 4 of p/*")
	w.says(`{"action":"publish","topic":"a","from":"b","batch":[7,8],"offset":7}`, // one has come before
		`{"action":"publish","topic":"a","from":"b","data":11,"offset":11}`,             // two are missing
		`{"action":"publish","topic":"a","from":"b","data":1,"offset":5000000000}`,      // behind a break
		`{"action":"publish","topic":"a","from":"b","data":2,"offset":1,"epoch":"new"}`, // nobody knows
		`{"action":"publish","topic":"p/1","from":"b","data":1,"offset":9}`,             // was told already
		`{"action":"publish","topic":"p/1","from":"b","data":1,"offset":11}`)            // now it counts
	w.gets(a, "a b 8 e:8", "a b 11 e:11", "a b 1 e:5000000000", "a b 2 new:1")
	w.wants("lost 2 of a", "lost -1 of a", "lost 1 of p/1")
}

// What is on its way for an earlier subscription is not for one that wants the past.
func TestWhatWasOnItsWay(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.s.Unsubscribe(w.live("a"), w.now)
	sub := w.subscribe(Key{Topic: "a"}, &Wanted{Start: &Start{Since: &Position{"e", 1}}})
	w.says(`{"action":"publish","topic":"a","from":"b","data":5,"offset":5}`, `{"action":"unsubscribed","topic":"a"}`,
		`{"action":"subscribed","topic":"a","epoch":"e","offset":1,"coming":4,"recovered":true}`,
		`{"action":"publish","topic":"a","from":"b","data":2,"offset":2}`)
	w.gets(sub, "a b 2 e:2")
}

func TestAskingForThePast(t *testing.T) {
	w := connected(t, fullPong, nil)
	q, err := w.s.AskPast("a", &Start{Since: &Position{"e", 3}, Last: 10}, w.now, nil)
	w.must(err)
	name := w.sends(`{"action":"history","topic":"a","nonce":"NAME","last":10,"since":{"epoch":"e","offset":3}}`)
	w.says(fmt.Sprintf(`{"action":"history","topic":"a","nonce":%q,"epoch":"e","offset":3,"coming":5,"recovered":false,"lost":2,`+
		`"messages":[{"offset":6,"from":"b","data":[1],"headers":{"x":"y"}},5,{"offset":0},{"offset":"7","data":1},{"offset":7,"from":5}]}`, name))
	if !q.Done || q.Err != nil || len(q.Past.Messages) != 2 || q.Past.Messages[0].Epoch != "e" || q.Past.Lost != 2 || q.Past.IsWhole {
		t.Errorf("%+v", q.Past)
	}
	if m := q.Past.Messages[1]; m.Offset != 7 || m.From != "" || string(m.Data) != "null" {
		t.Errorf("%+v", m)
	}
}

// -- presence

func TestPresence(t *testing.T) {
	w := connected(t, fullPong, nil)
	sub := &Subscription{Key: Key{Topic: "a"}, Observes: true}
	w.must(w.s.Subscribe(sub, &Wanted{Info: []byte(`{"n":1}`)}, false, w.now))
	w.sends(`{"action":"subscribe","topic":"a","info":{"n":1},"presence":true}`)
	w.says(`{"action":"subscribed","topic":"a","presence":{"count":2,"version":3,"members":[{"id":"me","info":{"n":1}},{"id":"bob"}]}}`)
	w.wants("members map[bob: me:{\"n\":1}] of 2, joined map[bob: me:{\"n\":1}], updated map[], left map[], for 1")
	w.says(`{"action":"presence","topic":"a","count":2,"version":4,"joined":[{"id":"carol","info":{}},{"id":"me","info":{"n":2}}],`+
		`"left":[{"id":"bob","reason":"lost"},{"id":"x","reason":"lost"}]}`,
		`{"action":"presence","topic":"a","count":5000,"version":5}`,
		`{"action":"presence","topic":"a","count":1,"version":6,"members":[{"id":"me"}]}`,
		`{"action":"presence","topic":"other","count":1,"version":6}`)
	w.wants("members map[carol:{} me:{\"n\":2}] of 2, joined map[carol:{}], updated map[me:{\"n\":2}], left map[bob:lost], for 1",
		"members map[] of 5000, joined map[], updated map[], left map[], for 1",
		"members map[me:] of 1, joined map[me:], updated map[], left map[], for 1")
	w.again(fullPong)
	w.sends(`{"action":"subscribe","topic":"a","info":{"n":1},"presence":true}`)
	w.says(`{"action":"subscribed","topic":"a","presence":{"count":1,"version":1,"members":[{"id":"dora"}]}}`)
	w.wants("members map[dora:] of 1, joined map[dora:], updated map[], left map[me:unknown], for 1")

	other := w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.s.Unsubscribe(sub, w.now)
	w.sends(`{"action":"subscribe","topic":"a","presence":false}`)
	w.s.Unsubscribe(other, w.now)
	w.sends(`{"action":"unsubscribe","topic":"a"}`)
	if len(w.s.presences.known) > 0 {
		t.Error("members are known")
	}
}

// Whoever may not see the members loses only the subscription that wants them.
func TestRefusedPresence(t *testing.T) {
	w := connected(t, fullPong, nil)
	plain := w.live("a")
	sub := &Subscription{Key: Key{Topic: "a"}, Observes: true}
	w.must(w.s.Subscribe(sub, &Wanted{}, true, w.now))
	w.sends(`{"action":"subscribe","topic":"a","presence":true}`)
	w.says(`{"action":"error","error":"no","code":"forbidden","request":"subscribe","topic":"a"}`)
	w.fails(sub.Err, ServerError)
	if plain.Err != nil || !w.s.IsSettled(plain) {
		t.Error(plain.Err)
	}
	w.says(`{"action":"publish","topic":"a","from":"b","data":1}`)
	w.gets(plain, "a b 1")
	w.again(fullPong)
	w.sends(`{"action":"subscribe","topic":"a"}`)
}

func TestRefusedPresenceOfSeveral(t *testing.T) {
	refused := `{"action":"error","error":"no","code":"forbidden","request":"subscribe","topic":"a"}`
	confirmed := `{"action":"subscribed","topic":"a"}`
	told := `{"action":"subscribed","topic":"a","presence":{"count":1,"version":1,"members":[{"id":"x"}]}}`
	info := `{"action":"subscribe","topic":"a","info":{"n":1}}`
	observing := func(w *world) *Subscription {
		sub := &Subscription{Key: Key{Topic: "a"}, Observes: true}
		w.must(w.s.Subscribe(sub, &Wanted{}, false, w.now))
		return sub
	}

	// Refused before the answer to one that has ended: nobody observes.
	w := connected(t, fullPong, nil)
	w.live("a")
	w.must(w.s.Subscribe(&Subscription{Key: Key{Topic: "a"}, Observes: true}, &Wanted{Info: []byte(`{"n":1}`)}, false, w.now))
	second := observing(w)
	w.sent()
	w.s.Unsubscribe(second, w.now)
	w.sends()
	w.says(refused, told)
	w.sends(`{"action":"subscribe","topic":"a","presence":false}`)

	// The first question is refused for good, and the server agrees to another one.
	w = connected(t, fullPong, nil)
	first := observing(w)
	w.subscribe(Key{Topic: "a"}, &Wanted{Info: []byte(`{"n":1}`)})
	w.sends(`{"action":"subscribe","topic":"a","presence":true}`, info)
	w.says(refused)
	w.fails(first.Err, ServerError)
	w.sends(`{"action":"unsubscribe","topic":"a"}`)

	// It is asked again once what was asked besides has its answer, and tells that nobody observes.
	w = connected(t, fullPong, nil)
	plain := w.subscribe(Key{Topic: "a"}, &Wanted{})
	other, third := w.subscribe(Key{Topic: "a"}, &Wanted{Info: []byte(`{"n":1}`)}), observing(w)
	w.sent()
	w.says(`{"action":"error","error":"no","code":"unavailable","request":"subscribe","topic":"a"}`)
	w.pass(5 * time.Second)
	w.sends()
	w.says(refused, told)
	w.fails(other.Err, ServerError)
	w.s.Unsubscribe(third, w.now)
	w.pass(5 * time.Second)
	w.sends(`{"action":"subscribe","topic":"a","presence":false}`)
	w.says(confirmed)
	if plain.Err != nil || !w.s.IsSettled(plain) {
		t.Error(plain.Err)
	}
}

func TestAskingWhoIsThere(t *testing.T) {
	w := connected(t, fullPong, nil)
	q, err := w.s.AskPresence("a", w.now, nil)
	w.must(err)
	name := w.sends(`{"action":"presence","topic":"a","nonce":"NAME"}`)
	w.says(fmt.Sprintf(`{"action":"presence","topic":"a","nonce":%q,"count":7}`, name))
	if !q.Done || q.Presence.Count != 7 || q.Presence.Members != nil || q.Presence.Version != -1 {
		t.Errorf("%+v", q.Presence)
	}
}

// What the new server lacks ends, and the program hears of it.
func TestAnotherServer(t *testing.T) {
	w := connected(t, fullPong, nil)
	pattern := w.subscribe(Key{Topic: "p*", IsPattern: true}, &Wanted{})
	group := w.subscribe(Key{Topic: "a", Group: "g"}, &Wanted{})
	sub := &Subscription{Key: Key{Topic: "a"}, Observes: true}
	w.must(w.s.Subscribe(sub, &Wanted{}, false, w.now))
	w.again(`{"action":"pong","id":"me","proto":2}`)
	w.sends(`{"action":"subscribe","topic":"a"}`)
	w.fails(pattern.Err, Unsupported)
	w.fails(group.Err, Unsupported)
	if sub.Err != nil || group.Err.Group != "g" || pattern.Err.Pattern != "p*" {
		t.Error(sub.Err, group.Err, pattern.Err)
	}
}
