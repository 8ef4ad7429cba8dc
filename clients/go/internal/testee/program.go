package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"kps.internal/kps"
)

// options are those of a vector.
type options struct {
	ID             string          `json:"id"`
	Level          int             `json:"level"`
	Token          string          `json:"token"`
	Tokens         []string        `json:"tokens"`
	Reconnect      json.RawMessage `json:"reconnect"` // false, or seconds
	Offline        int             `json:"offline"`
	RequestTimeout float64         `json:"request_timeout"`
	ReportsDirect  bool            `json:"reports_direct"`
}

// step is what the program does.
type step struct {
	As           string            `json:"as"`
	Of           string            `json:"of"`
	Topic        string            `json:"topic"`
	Pattern      string            `json:"pattern"`
	To           string            `json:"to"`
	Group        string            `json:"group"`
	Concurrency  int               `json:"concurrency"`
	Last         *int              `json:"last"`
	Since        *kps.Position     `json:"since"`
	Info         json.RawMessage   `json:"info"`
	Presence     bool              `json:"presence"`
	Answer       *answer           `json:"answer"`
	Data         json.RawMessage   `json:"data"`
	Headers      map[string]string `json:"headers"`
	MessageID    *string           `json:"message_id"`
	Timeout      *float64          `json:"timeout"`
	Expect       []string          `json:"expect"`
	ExpectGroups []string          `json:"expect_groups"`
	Key          *string           `json:"key"`
	Retry        *int              `json:"retry"`
	Result       json.RawMessage   `json:"result"`
	Error        *string           `json:"error"`
}

// answer is what becomes of a message.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *string         `json:"error"`
	Hold   bool            `json:"hold"`
}

// program is that of one vector.
type program struct {
	judge   *judge
	url     string
	options *options
	context context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	isOver  bool
	client  *kps.Client
	names   map[string]subscription
	answers map[string]chan answer
	acks    map[string]*kps.Ack
	tokens  int
}

// subscription is one that the program has asked for; it is nil while the call waits.
type subscription struct {
	*kps.Subscription
	topic   string
	options []kps.SubscribeOption
}

func newProgram(j *judge, url string, o *options) *program {
	p := &program{
		judge: j, url: url, options: o,
		names:   make(map[string]subscription),
		answers: make(map[string]chan answer),
		acks:    make(map[string]*kps.Ack),
	}
	p.context, p.cancel = context.WithCancel(context.Background())
	return p
}

// tell tells the judge what the program was told.
func (p *program) tell(what string, more fields) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isOver {
		told := fields{"told": what}
		maps.Copy(told, more)
		p.judge.write(told)
	}
}

func (p *program) end() {
	p.mu.Lock()
	p.isOver = true
	client := p.client
	p.mu.Unlock()
	p.cancel()
	if client != nil {
		_ = client.Close()
	}
}

// begin carries out a step, and returns when that waits, or has come to its end.
func (p *program) begin(verb string, s *step) {
	verbs := map[string]func(*step) error{
		"connect": p.connect, "close": p.close, "subscribe": p.subscribe, "answer": p.answer,
		"unsubscribe": p.unsubscribe, "publish": p.publish, "publish_to_id": p.publishToID,
		"publish_with_receipt": p.publishWithReceipt, "publish_with_ack": p.publishWithAck,
		"request": p.request, "cancel": p.cancelAck, "status": p.status, "history": p.history,
		"presence": p.presence, "flush": p.flush,
	}
	name := s.As
	if name == "" {
		name = verb
	}
	do := verbs[verb]
	if do == nil {
		p.tell("failed", fields{"as": name, "error": "unsupported"})
		return
	}
	run := func() {
		if err := do(s); err != nil {
			told := ofError(err)
			told["as"] = name
			p.tell("failed", told)
		}
	}
	if verb == "connect" { // which makes what all others use, and does not wait
		run()
	} else {
		go run()
	}
	settled()
}

func (p *program) done(name string, result any) {
	told := fields{"as": name}
	if result != nil {
		told["result"] = result
	}
	p.tell("done", told)
}

// -- the client

func (p *program) connect(*step) error {
	o := &kps.Options{
		ID:             p.options.ID,
		Level:          p.options.Level,
		Token:          p.options.Token,
		OfflineQueue:   p.options.Offline,
		RequestTimeout: 5 * time.Second,
		OnConnect:      func(e kps.Connected) { p.tell("connected", fields{"id": e.ID}) },
		OnDisconnect:   func(e kps.Disconnected) { p.tell("disconnected", fields{"code": e.Code}) },
		OnRecovered: func(e kps.Recovered) {
			p.tell("recovered", fields{"topic": e.Topic, "messages": e.Messages})
		},
		OnLost:  func(e kps.Lost) { p.tell("lost", fields{"topic": e.Topic, "messages": known(e.Messages)}) },
		OnError: p.onError,
		OnClose: p.onClose,
	}
	if seconds := p.options.RequestTimeout; seconds > 0 {
		o.RequestTimeout = inSeconds(seconds)
	}
	if p.options.Tokens != nil {
		o.TokenFunc = p.nextToken
	}
	switch wait := 0.0; {
	case p.options.Reconnect == nil:
	case json.Unmarshal(p.options.Reconnect, &wait) == nil:
		o.Reconnect = kps.Every(inSeconds(wait))
	default:
		o.NoReconnect = true
	}
	if p.options.ReportsDirect {
		o.OnDirect = func(_ context.Context, m *kps.Message) (any, error) {
			p.tell("direct", ofDirect(m))
			return nil, nil
		}
	}
	client, err := kps.New(p.url, o)
	if err != nil {
		p.onClose(err)
		return nil
	}
	p.mu.Lock()
	p.client = client
	p.mu.Unlock()
	return nil
}

func (p *program) nextToken(context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := p.options.Tokens[min(p.tokens, len(p.options.Tokens)-1)]
	p.tokens++
	return token, nil
}

func (p *program) onError(err error) {
	if failed := new(kps.HandlerFailed); !errors.As(err, &failed) {
		p.tell("error", ofError(err))
	}
}

func (p *program) onClose(err error) {
	if err == nil {
		p.tell("ended", nil)
		return
	}
	p.tell("ended", ofError(err))
}

func (p *program) close(*step) error {
	go p.client.Close()
	return nil
}

func inSeconds(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}

// known returns a number, or null if nobody knows it.
func known(number int) any {
	if number < 0 {
		return nil
	}
	return number
}

// -- subscriptions

func (p *program) subscribe(s *step) error {
	answers := make(chan answer, 1000)
	given := answer{}
	if s.Answer != nil {
		given = *s.Answer
	}
	named := subscription{topic: s.Topic}
	var options []kps.SubscribeOption
	if s.Pattern != "" {
		named.topic = s.Pattern
		named.options = append(named.options, kps.AsPattern)
		options = append(options, kps.AsPattern)
	}
	if s.Group != "" {
		options = append(options, kps.Group(s.Group))
	}
	if s.Concurrency > 0 {
		options = append(options, kps.Concurrency(s.Concurrency))
	}
	if s.Last != nil {
		options = append(options, kps.Last(*s.Last))
	}
	if s.Since != nil {
		options = append(options, kps.Since(*s.Since))
	}
	if s.Info != nil {
		options = append(options, kps.Info(s.Info))
	}
	if s.Presence {
		options = append(options, kps.OnPresence(func(now *kps.Presence) {
			told := fields{"as": s.As, "members": nil, "count": now.Count}
			if now.Members != nil {
				told["members"] = slices.Sorted(maps.Keys(now.Members))
			}
			p.tell("members", told)
		}))
	}
	p.mu.Lock()
	p.names[s.As], p.answers[s.As] = named, answers
	p.mu.Unlock()
	handle := func(_ context.Context, m *kps.Message) (any, error) {
		told := ofMessage(m)
		told["as"] = s.As
		p.tell("message", told)
		now := given
		if now.Hold {
			select {
			case now = <-answers:
			case <-p.context.Done():
			}
		}
		if now.Error != nil {
			return nil, errors.New(*now.Error)
		}
		if now.Result == nil {
			return nil, nil
		}
		return now.Result, nil
	}
	sub, err := p.client.Handle(p.context, named.topic, handle, options...)
	if err != nil {
		return err
	}
	named.Subscription = sub
	p.mu.Lock()
	p.names[s.As] = named
	p.mu.Unlock()
	p.done(s.As, nil)
	return nil
}

func (p *program) answer(s *step) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[s.As] <- answer{Result: s.Result, Error: s.Error}
	return nil
}

func (p *program) unsubscribe(s *step) error {
	p.mu.Lock()
	named := p.names[s.As]
	p.mu.Unlock()
	if named.Subscription == nil {
		p.client.Unsubscribe(named.topic, named.options...)
	} else {
		named.Unsubscribe()
	}
	return nil
}

// -- publishing

func (s *step) publishOptions() []kps.PublishOption {
	var options []kps.PublishOption
	if s.Headers != nil {
		options = append(options, kps.Headers(s.Headers))
	}
	if s.MessageID != nil {
		options = append(options, kps.MessageID(*s.MessageID))
	}
	if s.Timeout != nil {
		options = append(options, kps.Timeout(inSeconds(*s.Timeout)))
	}
	if s.Expect != nil {
		options = append(options, kps.Expect(s.Expect...))
	}
	if s.ExpectGroups != nil {
		options = append(options, kps.ExpectGroups(s.ExpectGroups...))
	}
	if s.Key != nil {
		options = append(options, kps.Key(*s.Key))
	}
	if s.Retry != nil {
		options = append(options, kps.Retry(*s.Retry))
	}
	return options
}

func (p *program) publish(s *step) error {
	return p.client.Publish(p.context, s.Topic, s.Data, s.publishOptions()...)
}

func (p *program) publishToID(s *step) error {
	return p.client.PublishToID(p.context, s.To, s.Data, s.publishOptions()...)
}

func (p *program) publishWithReceipt(s *step) error {
	number, err := p.client.PublishWithReceipt(p.context, s.Topic, s.Data, s.publishOptions()...)
	if err == nil {
		p.done(s.As, known(number))
	}
	return err
}

func (p *program) publishWithAck(s *step) error {
	publish, target := p.client.PublishWithAck, s.Topic
	if s.To != "" {
		publish, target = p.client.PublishToIDWithAck, s.To
	}
	ack, err := publish(p.context, target, s.Data, s.publishOptions()...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.acks[s.As] = ack
	p.mu.Unlock()
	for response, err := range ack.Responses(p.context) {
		if err != nil {
			return err
		}
		told := ofResponse(response)
		told["as"] = s.As
		p.tell("outcome", told)
	}
	p.done(s.As, nil)
	return nil
}

func (p *program) request(s *step) error {
	request, target := p.client.Request, s.Topic
	if s.To != "" {
		request, target = p.client.RequestToID, s.To
	}
	result, err := request(p.context, target, s.Data, s.publishOptions()...)
	if err != nil {
		return err
	}
	if result == nil {
		p.done(s.As, nil)
	} else {
		p.done(s.As, result)
	}
	return nil
}

func (p *program) ackOf(name string) *kps.Ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acks[name]
}

func (p *program) cancelAck(s *step) error {
	p.ackOf(s.As).Cancel()
	return nil
}

func (p *program) status(s *step) error {
	status, err := p.ackOf(s.Of).Status(p.context)
	if err == nil {
		p.done(s.As, status)
	}
	return err
}

func (p *program) flush(s *step) error {
	err := p.client.Flush(p.context)
	if err == nil {
		p.done(s.As, nil)
	}
	return err
}

// -- the past and who is there

func (p *program) history(s *step) error {
	var options []kps.SubscribeOption
	if s.Since != nil {
		options = append(options, kps.Since(*s.Since))
	}
	if s.Last != nil {
		options = append(options, kps.Limit(*s.Last))
	}
	past, err := p.client.History(p.context, s.Topic, options...)
	if err != nil {
		return err
	}
	messages := []json.RawMessage{}
	for _, m := range past.Messages {
		messages = append(messages, m.Data)
	}
	result := fields{"messages": messages, "complete": past.Recovered, "lost": nil}
	if !past.Recovered {
		result["lost"] = known(past.Lost)
	}
	p.done(s.As, result)
	return nil
}

func (p *program) presence(s *step) error {
	presence, err := p.client.Presence(p.context, s.Topic)
	if err == nil {
		p.done(s.As, fields{"members": presence.Members, "count": presence.Count})
	}
	return err
}
