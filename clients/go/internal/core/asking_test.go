package core

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func (w *world) ask(r Request) *Question {
	w.t.Helper()
	if r.Target == "" {
		r.Target = "jobs"
	}
	if r.Data == nil {
		r.Data = []byte(`1`)
	}
	if r.Timeout == 0 {
		r.Timeout = 5 * time.Second
	}
	q, err := w.s.Ask(&r, w.now, nil)
	w.must(err)
	return q
}

func outcomes(q *Question) []string {
	var all []string
	for _, o := range q.Outcomes {
		text := fmt.Sprintf("%s %v %s %s", o.Name(), o.Success, o.Error, o.Result)
		if o.Key.Group != "" {
			text += fmt.Sprintf(" %s %d %v", o.ID, o.Attempts, o.Failures)
		}
		all = append(all, text)
	}
	return all
}

func TestAckRequest(t *testing.T) {
	w := connected(t, fullPong, nil)
	q := w.ask(Request{Expect: []string{"bob"}, ExpectGroups: []string{"g"}, Key: "k", Retry: 2,
		Headers: []byte(`{"h":"1"}`), MessageID: "m"})
	w.sends(`{"action":"publish_with_ack","topic":"jobs","ack_id":"NAME","timeout":5,"updates":true,"headers":{"h":"1"},` +
		`"message_id":"m","expect":["bob",{"group":"g"}],"key":"k","retry":2,"data":1}`)
	w.says(fmt.Sprintf(`{"action":"ack_update","ack_id":%q,"responses":{"bob":{"success":true,"result":[1]},"x":5}}`, q.ID()),
		fmt.Sprintf(`{"action":"ack_update","ack_id":%q,"responses":{"bob":{"success":false}}}`, q.ID()), // the first one counts
		`{"action":"ack_update","ack_id":"other","responses":{"dora":{"success":true}}}`)
	if q.Done {
		t.Error("it is done")
	}
	w.says(fmt.Sprintf(`{"action":"ack_response","ack_id":%q,"complete":false,"responses":{"carol":{"success":false,"error":"no"}},`+
		`"groups":[{"topic":"jobs","group":"g","success":true,"member":"eve","attempts":2,"failures":[{"member":"x","error":"y"}]}],`+
		`"missing":["late",5,"bob"],"presence":7}`, q.ID()))
	want := []string{"bob true  [1]", "carol false no ", "g of jobs true   eve 2 [[x y]]", "late false timeout "}
	if !q.Done || q.Err != nil || q.Version != 7 || !reflect.DeepEqual(outcomes(q), want) {
		t.Error(q.Done, q.Err, outcomes(q))
	}
	w.sends()
	if len(w.s.asking.byName)+len(w.s.asking.acks)+w.s.asking.size > 0 {
		t.Error("something is left")
	}
}

func TestAckRequestToAnID(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.ask(Request{Target: "bob", ToID: true, Timeout: 1500 * time.Millisecond})
	w.sends(`{"action":"publish_to_id_with_ack","to":"bob","ack_id":"NAME","timeout":1.5,"updates":true,"data":1}`)
	w = connected(t, oldPong, nil)
	w.ask(Request{Target: "bob", ToID: true})
	w.sends(`{"action":"publish_to_id_with_ack","to":"bob","ack_id":"NAME","timeout":5,"data":1,"from":"me"}`)
}

func TestGivingUp(t *testing.T) {
	w := connected(t, fullPong, nil)
	q := w.ask(Request{Timeout: 3 * time.Second})
	w.pass(2 * time.Second) // in the queue: its time has not begun
	w.sent()
	w.pass(250 * time.Millisecond)
	w.says(fmt.Sprintf(`{"action":"ack_update","ack_id":%q,"responses":{"bob":{"success":true}}}`, q.ID()))
	w.pass(3700 * time.Millisecond)
	if q.Done {
		t.Error("too soon")
	}
	w.pass(time.Second)
	w.fails(q.Err, RequestTimeout)
	w.sends(fmt.Sprintf(`{"action":"cancel_ack","ack_id":%q}`, "NAME"))
	if len(q.Outcomes) != 1 {
		t.Error("what is known is kept")
	}

	q = w.ask(Request{})
	w.pass(6 * time.Second)
	w.fails(q.Err, RequestTimeout) // the network takes nothing
}

func TestCancelling(t *testing.T) {
	w := connected(t, fullPong, nil)
	q := w.ask(Request{})
	w.sent()
	w.s.Cancel(q, nil, w.now)
	w.s.Cancel(q, nil, w.now)
	w.sends(`{"action":"cancel_ack","ack_id":"NAME"}`)
	if !q.Done || q.Err != nil {
		t.Error(q.Err)
	}
	w.says(fmt.Sprintf(`{"action":"ack_response","ack_id":%q,"responses":{"bob":{"success":true}}}`, q.ID()))
	if len(q.Outcomes) > 0 {
		t.Error("it has ended")
	}
}

func TestStatus(t *testing.T) {
	w := connected(t, fullPong, nil)
	q := w.ask(Request{})
	one, err := w.s.AskStatus(q, w.now, nil)
	w.must(err)
	two, err := w.s.AskStatus(q, w.now, nil)
	w.must(err)
	w.sent()
	w.says(fmt.Sprintf(`{"action":"ack_status","ack_id":%q,"status":{"bob":true,"carol":false,"x":5}}`, q.ID()))
	if !reflect.DeepEqual(one.Known, map[string]bool{"bob": true, "carol": false, "x": false}) || two.Done {
		t.Error(one.Known)
	}
	w.says(fmt.Sprintf(`{"action":"error","error":"no","code":"rate_limited","request":"get_ack_status","ack_id":%q}`, q.ID()))
	w.fails(two.Err, ServerError)
	w.says(fmt.Sprintf(`{"action":"ack_response","ack_id":%q,"responses":{"bob":{"success":true}},"missing":["carol"]}`, q.ID()))
	three, err := w.s.AskStatus(q, w.now, nil)
	w.must(err)
	if !three.Done || !reflect.DeepEqual(three.Known, map[string]bool{"bob": true, "carol": false}) {
		t.Error(three.Known)
	}
}

func TestAnswers(t *testing.T) {
	tests := map[string]struct {
		response, result string
		kind             Kind
		text             string
	}{
		"a result":           {`"responses":{"a":{"success":false},"b":{"success":true,"result":{"x":1}}}`, `{"x":1}`, 0, ""},
		"nothing":            {`"responses":{"b":{"success":true}}`, "", 0, ""},
		"nobody":             {`"complete":true`, "", NobodyThere, ""},
		"no subscriber":      {`"responses":{"a":{"success":false,"error":"no subscriber for topic"}}`, "", NobodyThere, ""},
		"no member":          {`"groups":[{"topic":"jobs","group":"g","success":false,"error":"no member","attempts":0}]`, "", NobodyThere, ""},
		"a member once":      {`"groups":[{"topic":"jobs","group":"g","success":false,"error":"no member","attempts":1}]`, "", RequestFailed, "no member"},
		"failures":           {`"responses":{"a":{"success":false,"error":"disconnected"},"b":{"success":false,"error":"no"}}`, "", RequestFailed, "no"},
		"a silent failure":   {`"responses":{"a":{"success":false}}`, "", RequestFailed, "the request failed"},
		"silence":            {`"missing":["a","b"]`, "", RequestTimeout, ""},
		"silence and an end": {`"missing":["a"],"responses":{"b":{"success":false,"error":"disconnected"}}`, "", RequestFailed, "disconnected"},
	}
	for name, test := range tests {
		w := connected(t, fullPong, nil)
		q := w.ask(Request{})
		if _, _, done := q.Answer(); done {
			t.Error(name)
		}
		w.says(fmt.Sprintf(`{"action":"ack_response","ack_id":%q,%s}`, q.ID(), test.response))
		result, err, done := q.Answer()
		switch {
		case !done || string(result) != test.result:
			t.Errorf("%s: %s %v", name, result, done)
		case test.kind == 0 && err != nil, test.kind != 0 && (err == nil || err.Kind != test.kind):
			t.Errorf("%s: %v", name, err)
		case test.text != "" && err.Text != test.text:
			t.Errorf("%s: %q", name, err.Text)
		}
	}
}

func TestFlushAndReceipts(t *testing.T) {
	w := connected(t, fullPong, nil)
	one, err := w.s.Flush(w.now, nil)
	w.must(err)
	name := w.sends(`{"action":"ping","from":"me","proto":2,"nonce":"NAME"}`)
	two, err := w.s.Flush(w.now, nil)
	w.must(err)
	w.says(`{"action":"pong","id":"me"}`, fmt.Sprintf(`{"action":"pong","id":"me","nonce":%q}`, name))
	if !one.Done || two.Done {
		t.Error("each is answered by its name")
	}
	q, err := w.s.PublishWithReceipt(&Request{Target: "a", Data: []byte(`1`)}, w.now, nil)
	w.must(err)
	w.sent()
	w.says(fmt.Sprintf(`{"action":"published","topic":"a","receipt":%q,"delivered":3}`, q.name))
	if !q.Done || q.Delivered != 3 {
		t.Error(q)
	}
	q, err = w.s.PublishWithReceipt(&Request{Target: "a", Data: []byte(`1`)}, w.now, nil)
	w.must(err)
	w.says(fmt.Sprintf(`{"action":"error","error":"no","code":"forbidden","request":"publish","topic":"a","receipt":%q}`, q.name))
	w.fails(q.Err, ServerError)
	w.s.Forget(two)
	w.says(fmt.Sprintf(`{"action":"pong","nonce":%q}`, two.name))
}

func TestFlushAndReceiptsOnLevel1(t *testing.T) {
	w := connected(t, oldPong, nil)
	q, err := w.s.PublishWithReceipt(&Request{Target: "a", Data: []byte(`1`)}, w.now, nil)
	w.must(err)
	name := w.sends(`{"action":"publish","topic":"a","data":1,"from":"me"}`, `{"action":"get_ack_status","ack_id":"NAME","from":"me"}`)
	w.says(`{"action":"published","topic":"a"}`, fmt.Sprintf(`{"action":"ack_status","ack_id":%q}`, name))
	if !q.Done || q.Err != nil || q.Delivered != -1 {
		t.Error(q)
	}
}

// A server of the original ends each request after five seconds, and leaves out who was silent.
func TestSilenceOnLevel1(t *testing.T) {
	for after, isSilence := range map[time.Duration]bool{0: false, 5 * time.Second: true} {
		w := connected(t, oldPong, nil)
		q := w.ask(Request{Timeout: 8 * time.Second})
		w.sent()
		w.pass(after)
		w.says(fmt.Sprintf(`{"action":"ack_response","ack_id":%q,"responses":{}}`, q.ID()))
		if !q.Done || (q.Err != nil) != isSilence {
			t.Error(after, q.Err)
		}
	}
}

// A server of the original may answer a request whose program is gone to a new one with its id.
func TestNamesDifferFromThoseOfAnEarlierProgram(t *testing.T) {
	names := make(map[string]bool)
	for _, bits := range []uint32{1 << 20, 1 << 31} {
		first := bits
		w := connected(t, oldPong, func(c *Config) {
			c.Random = func() (bits uint32) { bits, first = first, 0; return bits }
		})
		names[w.ask(Request{}).ID()] = true
	}
	if len(names) != 2 {
		t.Error(names)
	}
}

func TestRefusedRequests(t *testing.T) {
	w := connected(t, fullPong, nil)
	q := w.ask(Request{})
	w.says(fmt.Sprintf(`{"action":"error","error":"no","code":"forbidden","request":"publish_with_ack","topic":"jobs","ack_id":%q}`, q.ID()))
	w.fails(q.Err, ServerError)
	w.wants()
	// Of a frame that is refused as a whole.
	one, two := w.ask(Request{}), w.ask(Request{})
	sub := w.subscribe(Key{Topic: "a"}, &Wanted{})
	w.says(fmt.Sprintf(`{"action":"error","error":"much","code":"bad_message","refused":[{"request":"publish_with_ack","ack_id":%q},`+
		`{"request":"publish_with_ack","ack_id":%q},{"request":"subscribe","topic":"a"},5,{"request":"publish","topic":"x"}]}`, one.ID(), two.ID()))
	w.fails(one.Err, ServerError)
	w.fails(two.Err, ServerError)
	w.fails(sub.Err, ServerError)
	if told := w.told(); len(told) != 2 {
		t.Error(told)
	}
}

func TestWhatWaitsEndsWithTheConnection(t *testing.T) {
	w := connected(t, fullPong, nil)
	ack := w.ask(Request{})
	flush, _ := w.s.Flush(w.now, nil)
	past, _ := w.s.AskPast("a", nil, w.now, nil)
	status, _ := w.s.AskStatus(ack, w.now, nil)
	w.link.Lost(w.now, "gone")
	for _, err := range []*Error{ack.Err, flush.Err, past.Err, status.Err} {
		w.fails(err, ConnectionLost)
	}
}

func TestTooManyQuestions(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.QueueBytes = 1 })
	for range 1024 {
		w.ask(Request{})
		w.sent()
	}
	_, err := w.s.Flush(w.now, nil)
	w.fails(err, QueueFull)
}

func TestResultsAreBounded(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.ResultBytes = 1000 })
	one, two := w.ask(Request{}), w.ask(Request{})
	w.sent()
	for _, q := range []*Question{one, two} {
		w.says(fmt.Sprintf(`{"action":"ack_update","ack_id":%q,"responses":{"bob":{"success":true,"result":%q}}}`, q.ID(), strings.Repeat("x", 600)))
	}
	w.fails(two.Err, QueueFull)
	w.sends(`{"action":"cancel_ack","ack_id":"NAME"}`)
	w.s.Cancel(one, nil, w.now)
	if w.s.asking.size != 0 {
		t.Error(w.s.asking.size)
	}
}

// -- message ids

func TestMessagesWithIDsAreSentAgain(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.now += 10 * time.Second
	receipt, err := w.s.PublishWithReceipt(&Request{Target: "a", Data: []byte(`1`), MessageID: "m1"}, w.now, nil)
	w.must(err)
	ack := w.ask(Request{MessageID: "m2", Timeout: 30 * time.Second})
	plain := w.ask(Request{})
	w.sent()
	w.says(fmt.Sprintf(`{"action":"ack_update","ack_id":%q,"responses":{"bob":{"success":true}}}`, ack.ID()))
	w.subscribe(Key{Topic: "b"}, &Wanted{})
	w.now += 3 * time.Second
	w.again(fullPong)
	w.fails(plain.Err, ConnectionLost)
	sent := w.sent()
	if len(sent) != 3 || sent[0] != `{"action":"subscribe","topic":"b"}` ||
		!strings.Contains(sent[1], `"message_id":"m1","repeat_until":1130,"data":1`) ||
		!strings.Contains(sent[2], `"timeout":26,`) || !strings.Contains(sent[2], `"message_id":"m2","repeat_until":1130,`) {
		t.Error(sent)
	}
	w.says(fmt.Sprintf(`{"action":"published","receipt":%q,"delivered":2}`, receipt.name),
		fmt.Sprintf(`{"action":"ack_response","ack_id":%q,"responses":{"bob":{"success":true},"carol":{"success":true}}}`, ack.ID()))
	if receipt.Delivered != 2 || !ack.Done || len(ack.Outcomes) != 2 {
		t.Error(receipt, outcomes(ack))
	}
	if w.s.asking.repeats.size != 0 {
		t.Error(w.s.asking.repeats.size)
	}
}

func TestMessagesWithIDsAreNotSentAgain(t *testing.T) {
	another := strings.Replace(fullPong, `"window":"w"`, `"window":"x"`, 1)
	for name, pong := range map[string]string{
		"another window": another, "no ids": `{"action":"pong","id":"me","proto":2}`, "level 1": oldPong,
		"another id": strings.Replace(fullPong, `"id":"me"`, `"id":"you"`, 1),
	} {
		w := connected(t, fullPong, nil)
		q := w.ask(Request{MessageID: "m1", Timeout: 30 * time.Second})
		w.sent()
		w.again(pong)
		if q.Err == nil || q.Err.Kind != ConnectionLost {
			t.Errorf("%s: %v", name, q.Err)
		}
		w.sends()
	}
	w := connected(t, fullPong, nil)
	q := w.ask(Request{MessageID: "m1", Timeout: 500 * time.Millisecond})
	w.sent()
	w.link.Lost(w.now, "gone")
	w.now += time.Second
	w.told()
	w.s.emit(ConnectNeeded{})
	w.connect(fullPong)
	w.fails(q.Err, ConnectionLost) // no time is left
	w = connected(t, strings.Replace(fullPong, `"most":10000`, `"most":1`, 1), nil)
	q = w.ask(Request{MessageID: "m1", Timeout: 30 * time.Second})
	w.ask(Request{MessageID: "m2"})
	w.sent()
	w.again(fullPong)
	w.fails(q.Err, ConnectionLost) // the server has forgotten it for the other one
}

func TestTheTimeGoesOnWithoutAConnection(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Reconnect = &Backoff{time.Hour, 1, time.Hour, 0} })
	q := w.ask(Request{MessageID: "m1", Timeout: 2 * time.Second})
	w.sent()
	w.link.Lost(w.now, "gone")
	w.pass(3500 * time.Millisecond)
	w.fails(q.Err, RequestTimeout)
}

// -- answering

func TestAnsweringAckRequests(t *testing.T) {
	w := connected(t, fullPong, nil)
	one, two := w.live("jobs"), w.subscribe(Key{Topic: "j*", IsPattern: true}, &Wanted{})
	w.sent()
	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q1","from":"bob","data":1}`)
	first, second := w.gets(one, "jobs bob 1")[0], w.gets(two, "jobs bob 1")[0]
	w.s.Settle(first.Ack, Outcome{Result: []byte(`[1]`)}, w.now)
	w.sends()
	w.s.Settle(second.Ack, Outcome{Result: []byte(`[2]`)}, w.now)
	w.sends(`{"action":"ack","ack_id":"q1","success":true,"result":[1]}`)

	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q2","from":"bob","data":1}`)
	first, second = w.gets(one, "jobs bob 1")[0], w.gets(two, "jobs bob 1")[0]
	w.s.Settle(first.Ack, Outcome{Failed: true, Error: strings.Repeat("ä", 2000)}, w.now)
	w.s.Settle(second.Ack, Outcome{}, w.now)
	w.sends(`{"action":"ack","ack_id":"q2","success":false,"error":"` + strings.Repeat("ä", 1000) + `"}`)

	w.says(`{"action":"publish_ack","topic":"other","ack_id":"q3","from":"bob","data":1}`)
	w.sends(`{"action":"ack","ack_id":"q3","success":false,"error":"no subscriber for topic"}`)

	// What was asked on an earlier connection is not answered.
	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q4","from":"bob","data":1}`)
	first, second = w.gets(one, "jobs bob 1")[0], w.gets(two, "jobs bob 1")[0]
	w.again(fullPong)
	w.sent()
	w.s.Settle(first.Ack, Outcome{}, w.now)
	w.s.Settle(second.Ack, Outcome{}, w.now)
	w.sends()
}

func TestAnsweringWhatIsSentToTheID(t *testing.T) {
	w := connected(t, fullPong, nil)
	w.says(`{"action":"publish_ack","ack_id":"q1","from":"bob","data":1}`, `{"action":"direct_message","from":"bob","data":2}`)
	taken := w.gets(w.s.Direct(), " bob 1", " bob 2")
	w.s.Settle(taken[0].Ack, Outcome{}, w.now)
	w.sends(`{"action":"ack","ack_id":"q1","success":true}`)

	w = connected(t, oldPong, nil)
	w.says(`{"action":"publish_ack","topic":"__direct_me_1","ack_id":"q1","data":{"data":1,"from":"bob"}}`)
	w.s.Settle(w.gets(w.s.Direct(), " bob 1")[0].Ack, Outcome{Failed: true, Error: "no"}, w.now)
	w.sends(`{"action":"ack","ack_id":"q1","from":"me","data":{"ack_id":"q1","client_id":"me","success":false,"error":"no"}}`)

	w = connected(t, fullPong, func(c *Config) { c.TakesDirect = false })
	w.says(`{"action":"publish_ack","ack_id":"q1","from":"bob","data":1}`, `{"action":"direct_message","from":"bob","data":2}`)
	w.sends(`{"action":"ack","ack_id":"q1","success":false,"error":"no subscriber for topic"}`)
}

func TestResultsThatCannotBeSent(t *testing.T) {
	w := connected(t, strings.Replace(fullPong, "1048576", "500", 1), nil)
	sub := w.live("jobs")
	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q1","from":"bob","data":1}`)
	w.s.Settle(w.gets(sub, "jobs bob 1")[0].Ack, Outcome{Result: []byte(`"` + strings.Repeat("x", 500) + `"`)}, w.now)
	if sent := w.sent(); len(sent) != 1 || !strings.Contains(sent[0], `"success":false,"error":"the result of the callback cannot be sent`) {
		t.Error(sent)
	}
}

func TestMembersOfGroups(t *testing.T) {
	w := connected(t, fullPong, nil)
	sub := w.subscribe(Key{Topic: "jobs", Group: "g"}, &Wanted{})
	plain := w.live("jobs")
	w.says(`{"action":"subscribed","topic":"jobs","group":"g"}`)
	w.says(`{"action":"publish","topic":"jobs","from":"bob","batch":[1,2],"group":"g"}`,
		`{"action":"publish_ack","topic":"jobs","ack_id":"q1","from":"bob","data":3,"group":"g","attempt":3}`)
	taken := w.gets(sub, "jobs bob 1", "jobs bob 2", "jobs bob 3")
	w.gets(plain)
	if taken[2].Attempt != 3 || taken[0].Attempt != 1 {
		t.Error(taken)
	}
	w.s.Settle(taken[2].Ack, Outcome{Failed: true, Error: "no"}, w.now)
	w.sends(`{"action":"ack","ack_id":"q1","success":false,"error":"no"}`)
	// Who leaves returns what it has not begun with.
	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q2","from":"bob","data":4,"group":"g"}`)
	w.s.Unsubscribe(sub, w.now)
	w.says(`{"action":"publish_ack","topic":"jobs","ack_id":"q3","from":"bob","data":5,"group":"g"}`)
	w.sends(`{"action":"unsubscribe","topic":"jobs","group":"g"}`,
		`{"action":"ack","ack_id":"q2","success":false,"error":"unsubscribed","begun":false}`,
		`{"action":"ack","ack_id":"q3","success":false,"error":"no subscriber for topic","begun":false}`)
}

// -- flow

func TestReadingPauses(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.MailboxMessages = 3200 })
	sub := w.live("a")
	for range 101 {
		w.says(`{"action":"publish","topic":"a","from":"b","data":1}`)
	}
	if !w.link.WantsPause() {
		t.Fatal("it reads on")
	}
	// While the program goes on, however slowly, it waits.
	for range 100 {
		w.pass(9 * time.Second)
		w.frame(10, "")
		sub.Begun.Add(1)
		if !w.link.WantsPause() {
			t.Fatal("it reads on")
		}
	}
	w.s.Take(nil, sub, 60)
	if w.link.WantsPause() {
		t.Error("it does not read on")
	}
}

func TestWhoHangsIsNotWaitedFor(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.MailboxMessages = 320 })
	sub, other := w.live("a"), w.live("b")
	for range 320 {
		w.says(`{"action":"publish","topic":"a","from":"b","data":1}`)
	}
	w.pass(9 * time.Second)
	if !w.link.WantsPause() {
		t.Error("too soon")
	}
	w.pass(2 * time.Second)
	if w.link.WantsPause() {
		t.Error("it waits")
	}
	w.says(`{"action":"publish","topic":"b","from":"b","data":1}`, `{"action":"publish","topic":"a","from":"b","data":2}`,
		`{"action":"publish_ack","topic":"a","ack_id":"q","from":"b","data":3}`)
	w.gets(other, "b b 1")
	if sub.Dropped != 2 {
		t.Error(sub.Dropped)
	}
	w.wants("overflowed a") // once
	w.sends(`{"action":"subscribe","topic":"b"}`[:0] + `{"action":"ack","ack_id":"q","success":false,"error":"queue full"}`)
	// When it goes on, it is waited for again.
	sub.Begun.Add(1)
	w.s.Take(nil, sub, 1)
	w.says(`{"action":"publish","topic":"a","from":"b","data":4}`)
	if !w.link.WantsPause() {
		t.Error("it reads on")
	}
}

// A callback may wait for an answer, which is behind the messages that are not read.
func TestWhoAsksIsNotWaitedForLong(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.MailboxMessages = 320 })
	sub := w.live("a")
	w.ask(Request{})
	for range 20 {
		w.says(`{"action":"publish","topic":"a","from":"b","data":1}`)
	}
	if !w.link.WantsPause() {
		t.Error("it reads on at once")
	}
	w.pass(time.Second)
	if w.link.WantsPause() {
		t.Error("it waits")
	}
	w.s.Unsubscribe(sub, w.now)
	if len(w.s.flow.crowded) > 0 {
		t.Error("something is left")
	}
}

// A server that takes none of our answers ends the connection, rather than our memory.
func TestAnswersAreBounded(t *testing.T) {
	w := connected(t, fullPong, func(c *Config) { c.Limits.QueueBytes = 100_000 })
	for i := range 2000 {
		w.says(fmt.Sprintf(`{"action":"publish_ack","topic":"x","ack_id":"q%d","from":"b","data":1}`, i))
	}
	if told := w.told(); len(told) == 0 || !strings.HasPrefix(told[0], "disconnected 1008") {
		t.Error(told)
	}
}
