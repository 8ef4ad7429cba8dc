package ksps_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kps.internal/kps"
	"kps.internal/kps/internal/original"
	"kps.internal/kps/internal/testbus"
	"kps.internal/kps/ksps"
)

// What a program makes of what servers of the original say, and that these understand it.
func TestServersOfTheOriginal(t *testing.T) {
	reports := make(reports, 1000)
	before := slog.Default()
	slog.SetDefault(slog.New(reports))
	defer slog.SetDefault(before)
	for _, x := range original.Exchanges(t, "../../../spec") {
		t.Run(x.Name, func(t *testing.T) {
			made := original.Play(t, x, func(t *testing.T, id string) original.Client {
				return openFamiliar(t, id, reports)
			})
			want := original.Made(x.Name)
			for i, line := range want {
				// These names return no errors: a request ends with the responses that have come.
				for _, reason := range []string{"nobody had answered when the server's time was over", "the connection ended: gone"} {
					line = strings.Replace(line, "ack: "+reason, "ack: nobody", 1)
				}
				want[i] = line
			}
			if !slices.Equal(made, want) {
				t.Errorf("the client makes of it\n  %s\ninstead of\n  %s", strings.Join(made, "\n  "), strings.Join(want, "\n  "))
			}
		})
	}
}

// reports has what is logged of errors that no call returns.
type reports chan string

func (r reports) Enabled(context.Context, slog.Level) bool { return true }
func (r reports) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r reports) WithGroup(string) slog.Handler            { return r }

func (r reports) Handle(_ context.Context, record slog.Record) error {
	if record.Message == "kps: an error that nobody waits for" {
		record.Attrs(func(attr slog.Attr) bool {
			err, _ := attr.Value.Any().(error)
			r <- "error: " + textOf(err)
			return true
		})
	}
	return nil
}

func textOf(err error) string {
	if refused := new(kps.ServerError); errors.As(err, &refused) {
		return refused.Text
	}
	return err.Error()
}

// familiar is a client, as an original.Client. What it is told comes from several goroutines: after
// each text of the server there comes a mark for each of them, so that all is known to be told.
type familiar struct {
	t        *testing.T
	listener net.Listener
	conn     *testbus.Conn
	sent     chan string // what the client has sent, but for its probes
	made     chan *ksps.Client
	client   *ksps.Client
	got      map[string]chan ksps.Message // what callbacks get, by topic
	direct   chan ksps.Message
	reports  reports
	asked    *ksps.ClientAck // the latest request
	acks     map[string]*ksps.ClientAck
	answers  map[string]chan string // what calls return
	lines    []string
}

const mark = "a mark of the test"

// patience is a guard, and longer than anything takes.
const patience = 20 * time.Second

func openFamiliar(t *testing.T, id string, reports reports) *familiar {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &familiar{t: t, listener: l, made: make(chan *ksps.Client, 1), reports: reports,
		got: make(map[string]chan ksps.Message), direct: make(chan ksps.Message, 100),
		acks: make(map[string]*ksps.ClientAck), answers: make(map[string]chan string)}
	go func() {
		c, err := ksps.NewClient(ksps.ClientOptions{Id: id, Address: l.Addr().String(), Autorestart: true,
			RestartEvery: 10 * time.Millisecond, OnID: func(data ksps.Message) { f.direct <- data }})
		if err != nil {
			t.Error(err)
		}
		f.made <- c
	}()
	f.accept()
	t.Cleanup(func() {
		l.Close()
		f.conn.Close()
		f.ready()
		_ = f.client.Close()
	})
	return f
}

// accept takes the client's next connection.
func (f *familiar) accept() {
	_ = f.listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := f.listener.Accept()
	if err != nil {
		f.t.Fatal(err)
	}
	if f.conn, err = testbus.Accept(conn, http.StatusSwitchingProtocols); err != nil {
		f.t.Fatal(err)
	}
	sent := make(chan string, 1000)
	go read(f.conn, sent)
	f.sent = sent
}

// read reads what a client sends, and answers questions about ack requests that nobody has made.
func read(conn *testbus.Conn, sent chan<- string) {
	defer conn.Close()
	for {
		text, err := conn.Read()
		if err != nil {
			return
		}
		m := original.Read(string(text))
		if strings.HasPrefix(m.AckID, "probe_") || strings.HasPrefix(m.AckID, "barrier_") {
			_ = conn.Say(fmt.Sprintf(`{"action":"ack_status","ack_id":%q}`, m.AckID))
		} else {
			sent <- string(text)
		}
	}
}

// next waits for what has to come.
func next[T any](f *familiar, from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		f.t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// ready waits until there is a client.
func (f *familiar) ready() {
	if f.client == nil {
		f.client = next(f, f.made)
	}
}

func (f *familiar) IsOver() bool {
	select {
	case <-f.client.Done:
		return true
	default:
		return false
	}
}

func (f *familiar) Do(m original.Message) bool {
	if f.client == nil || m.Action == "ping" {
		return f.client == nil && m.Action == "ping"
	}
	var data any = m.Data
	if m.Data == nil {
		data = nil
	}
	returned := make(chan string, 1)
	ack := f.acks[m.AckID]
	switch {
	case m.Action == "subscribe" && m.Topic != "" && f.got[m.Topic] == nil:
		got := make(chan ksps.Message, 100)
		f.got[m.Topic] = got
		go func() {
			f.client.Subscribe(m.Topic, func(data ksps.Message, _ func()) { got <- data })
			returned <- "subscribed to " + m.Topic
		}()
		f.answers[m.Topic] = returned
	case m.Action == "unsubscribe" && f.got[m.Topic] != nil:
		f.client.Unsubscribe(m.Topic)
		delete(f.got, m.Topic)
	case m.Action == "publish" && m.Topic != "":
		f.client.Publish(m.Topic, data)
	case m.Action == "direct_message" && m.To != "":
		f.client.PublishToID(m.To, data)
	case m.Action == "publish_to_server" && m.To != "":
		f.client.PublishToServer(m.To, data)
	case m.Action == "publish_with_ack" && m.Topic != "" && m.AckID != "":
		f.asked = f.client.PublishWithAck(m.Topic, data, 5*time.Second)
	case m.Action == "publish_to_id_with_ack" && m.To != "" && m.AckID != "":
		f.asked = f.client.PublishToIDWithAck(m.To, data, 5*time.Second)
	case m.Action == "get_ack_status" && ack != nil:
		go func() { returned <- fmt.Sprint("status ", ack.GetStatus()) }()
		f.answers["status "+m.AckID] = returned
	case m.Action == "cancel_ack" && ack != nil:
		ack.Cancel()
	case m.Action == "ack" && m.Error == "" && len(f.got) > 0: // it goes out when the callback returns
	default:
		return false
	}
	return true
}

// wait has the end of a request told.
func (f *familiar) wait(ack *ksps.ClientAck, name string) {
	f.acks[name] = ack
	returned := make(chan string, 1)
	f.answers[name] = returned
	go func() {
		var outcomes []string
		for id, r := range ack.Wait() {
			line := id + " handled it"
			if !r.Success {
				line = id + " failed: " + r.Error
			}
			outcomes = append(outcomes, line)
		}
		slices.Sort(outcomes)
		returned <- original.Outcomes(outcomes)
	}()
}

func (f *familiar) Sent(wanted original.Message) string {
	for {
		text := next(f, f.sent)
		m := original.Read(text)
		if !m.IsLike(wanted) {
			continue
		}
		if strings.HasSuffix(m.Action, "_with_ack") {
			f.wait(f.asked, m.AckID)
		}
		return text
	}
}

func (f *familiar) Say(text string) {
	_ = f.conn.Say(text)
	f.ready()
	client, ctx := f.client.KPS(), f.t.Context()
	if client.Ready(ctx) != nil || client.Flush(ctx) != nil {
		next(f, f.client.Done)
		f.lines = append(f.lines, "ended: "+textOf(client.Err()))
		return
	}
	for topic, got := range f.got {
		_ = f.conn.Say(fmt.Sprintf(`{"action":"publish","topic":%q,"data":{"data":%q}}`, topic, mark))
		f.tell(topic, got)
	}
	_ = f.conn.Say(fmt.Sprintf(`{"action":"direct_message","data":%q}`, mark))
	f.tell("direct", f.direct)
	_ = f.conn.Say("5")
	for {
		line := next(f, f.reports)
		if strings.HasSuffix(line, "not a JSON object") {
			return
		}
		f.lines = append(f.lines, line)
	}
}

func (f *familiar) tell(prefix string, got <-chan ksps.Message) {
	for {
		m := next(f, got)
		if m.Data == mark {
			return
		}
		f.lines = append(f.lines, fmt.Sprintf("%s %s from %s", prefix, original.Payload(m.Data), m.From))
	}
}

func (f *familiar) End(code int) {
	if code > 0 {
		_ = f.conn.WriteClose(code)
	}
	_ = f.conn.Close()
	f.accept()
	f.Sent(original.Message{Action: "ping"})
	f.lines = append(f.lines, "comes back")
	f.Say(fmt.Sprintf(`{"action":"pong","id":%q}`, f.client.Id))
}

func (f *familiar) ID() string { return f.client.KPS().ID() }

func (f *familiar) Pass(time.Duration) {}

func (f *familiar) Answer(m original.Message) string {
	switch m.Action {
	case "subscribe":
		return next(f, f.answers[m.Topic])
	case "get_ack_status":
		return next(f, f.answers["status "+m.AckID])
	}
	return next(f, f.answers[m.AckID])
}

func (f *familiar) Told() []string {
	lines := f.lines
	f.lines = nil
	return lines
}
