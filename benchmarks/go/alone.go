package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"kps.internal/kps/internal/testbus"
)

// A client alone, beside a server that costs next to nothing. It does not look at what is published.
// What it publishes are bytes that are made once: 100 in a batch of KPS, or one by one. Or else it
// brings back each publication, and answers each question itself.

const (
	sizeOfWrite = 64 * 1024
	inBatch     = 100
)

// peer LIBRARY PROGRESS is such a server, until it is ended. It serves one client at a time.
func peer(arguments []string) (found, error) {
	received, err := counter(arguments[1])
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	library, kind, _ := strings.Cut(arguments[0], ":")
	serve := serveKPS
	if strings.HasPrefix(library, "nats") {
		serve = serveNATS
	}
	tell(found{"address": l.Addr().String()})
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		if err := serve(conn, kind, received); err != nil {
			return nil, err
		}
		conn.Close()
	}
}

// pour writes messages again and again, until the client is gone: no more than are under way
// elsewhere, so that they come no faster than they are handled.
func pour(conn net.Conn, frame []byte, messages int, received *atomic.Int64) {
	times := sizeOfWrite/len(frame) + 1
	data := bytes.Repeat(frame, times)
	for poured := received.Load(); ; {
		for poured-received.Load() > inFlight {
			time.Sleep(50 * time.Microsecond)
		}
		if _, err := conn.Write(data); err != nil {
			return
		}
		poured += int64(times * messages)
	}
}

// textFrame makes a frame of a server.
func textFrame(dst []byte, format string, values ...any) []byte {
	return testbus.AppendFrame(dst, 1, fmt.Appendf(nil, format, values...))
}

func serveKPS(conn net.Conn, kind string, received *atomic.Int64) error {
	c, err := testbus.Accept(conn, http.StatusSwitchingProtocols)
	if err != nil {
		return err
	}
	one := textFrame(nil, `{"action":"publish","topic":%q,"from":"peer","data":%s}`, topic, encoded)
	batch := textFrame(nil, `{"action":"publish","topic":%q,"from":"peer","batch":[%s]}`, topic,
		bytes.Join(slicesOf(encoded, inBatch), []byte(",")))
	for {
		text, err := c.Read()
		if err != nil {
			return nil
		}
		var answer []byte
		end := text[max(0, len(text)-300):] // where a question is, behind publications
		switch nonces := valuesOf(end, "nonce"); {
		case len(nonces) > 0:
			answer = textFrame(nil, `{"action":"pong","nonce":%q}`, nonces[0])
		case bytes.Contains(end, []byte(`"action":"ping"`)):
			answer = testbus.AppendFrame(nil, 1, []byte(testbus.Pong("me")))
		case bytes.Contains(end, []byte(`"action":"subscribe"`)):
			answer = textFrame(nil, `{"action":"subscribed","topic":%q}`, topic)
			switch kind {
			case "single":
				go pour(conn, one, 1, received)
			case "batches":
				go pour(conn, batch, inBatch, received)
			}
		case kind == "echo":
			answer = answerKPS(text, one)
		}
		if _, err := conn.Write(answer); err != nil {
			return nil
		}
	}
}

func slicesOf(one []byte, count int) [][]byte {
	all := make([][]byte, count)
	for i := range all {
		all[i] = one
	}
	return all
}

// answerKPS answers all that is asked in a text, or else brings a publication back.
func answerKPS(text, publication []byte) (answer []byte) {
	for _, id := range valuesOf(text, "ack_id") {
		answer = textFrame(answer, `{"action":"ack_response","ack_id":%q,"complete":true,"responses":{"peer":`+
			`{"success":true,"result":%d}}}`, id, sample.N)
	}
	for _, receipt := range valuesOf(text, "receipt") {
		answer = textFrame(answer, `{"action":"published","topic":"nobody","receipt":%q,"delivered":0}`, receipt)
	}
	if answer == nil {
		return publication
	}
	return answer
}

// valuesOf returns the texts of all fields of a name.
func valuesOf(text []byte, name string) (values [][]byte) {
	mark := []byte(`"` + name + `":"`)
	for {
		_, rest, ok := bytes.Cut(text, mark)
		if !ok {
			return values
		}
		var value []byte
		value, text, _ = bytes.Cut(rest, []byte(`"`))
		values = append(values, value)
	}
}

func serveNATS(conn net.Conn, kind string, received *atomic.Int64) error {
	if _, err := fmt.Fprintf(conn, "INFO {\"server_id\":\"peer\",\"version\":\"2.11.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n"); err != nil {
		return err
	}
	message := func(subject, sid string, payload []byte) []byte {
		return fmt.Appendf(nil, "MSG %s %s %d\r\n%s\r\n", subject, sid, len(payload), payload)
	}
	number := fmt.Appendf(nil, "%d", sample.N)
	sids := map[bool]string{} // of the topic, and of the client's inbox
	reader := bufio.NewReaderSize(conn, sizeOfWrite)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil
		}
		var answer []byte
		switch line[1] {
		case 'I': // PING
			answer = []byte("PONG\r\n")
		case 'U': // PUB SUBJECT [REPLY] SIZE, or SUB SUBJECT SID
			if line[0] == 'P' && kind != "echo" {
				_, _ = reader.Discard(len(encoded) + len("\r\n"))
				continue
			}
			words := strings.Fields(string(line))
			switch isTopic := words[1] == topic; {
			case line[0] == 'S':
				sids[isTopic] = words[2]
				if kind == "single" {
					go pour(conn, message(topic, words[2], encoded), 1, received)
				}
			case len(words) == 4:
				answer = message(words[2], sids[false], number)
			case isTopic:
				answer = message(topic, sids[true], encoded)
			}
			if line[0] == 'P' {
				_, _ = reader.Discard(len(encoded) + len("\r\n"))
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return nil
		}
	}
}

// send LIBRARY ADDRESS SECONDS publishes as fast as the server takes it.
func send(arguments []string) (found, error) {
	c, err := connect(arguments[0], arguments[1])
	if err != nil {
		return nil, err
	}
	run := func(until time.Time) (count int, err error) {
		for ; count%16 != 0 || time.Now().Before(until); count++ {
			if err := c.publish(topic); err != nil {
				return 0, err
			}
		}
		return count, c.flush()
	}
	if _, err := run(time.Now().Add(duration(arguments[2]) / 5)); err != nil { // warms up
		return nil, err
	}
	meter := newMeter()
	count, err := run(meter.began.Add(duration(arguments[2])))
	return meter.found(count), err
}

// receive LIBRARY ADDRESS SECONDS PROGRESS counts what its callback gets.
func receive(arguments []string) (found, error) {
	received, err := counter(arguments[3])
	if err != nil {
		return nil, err
	}
	c, err := connect(arguments[0], arguments[1])
	if err != nil {
		return nil, err
	}
	if err := c.subscribe(topic, func() { received.Add(1) }); err != nil {
		return nil, err
	}
	time.Sleep(duration(arguments[2]) / 5) // warms up
	before, meter := received.Load(), newMeter()
	time.Sleep(duration(arguments[2]))
	return meter.found(int(received.Load() - before)), nil
}
