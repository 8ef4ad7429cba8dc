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

// A client alone, beside a server that costs next to nothing: it does not look at what is published,
// and writes what it publishes as bytes that are made once.

const (
	sizeOfWrite = 64 * 1024
	inBatch     = 100 // messages in a batch of KPS
)

// peer LIBRARY PROGRESS is such a server, until it is ended. It serves one client at a time.
func peer(arguments []string) (found, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	received, err := counter(arguments[1])
	if err != nil {
		return nil, err
	}
	serve := serveKPS
	if strings.HasPrefix(arguments[0], "nats") {
		serve = serveNATS
	}
	tell(found{"address": l.Addr().String()})
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		if err := serve(conn, received, strings.HasSuffix(arguments[0], "-single")); err != nil {
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

func serveKPS(conn net.Conn, received *atomic.Int64, single bool) error {
	c, err := testbus.Accept(conn, http.StatusSwitchingProtocols)
	if err != nil {
		return err
	}
	messages := 1
	message := fmt.Sprintf(`{"action":"publish","topic":%q,"from":"peer","data":%s}`, topic, encoded)
	if !single {
		messages = inBatch
		batch := strings.Repeat(string(encoded)+",", inBatch)
		message = fmt.Sprintf(`{"action":"publish","topic":%q,"from":"peer","batch":[%s]}`, topic, batch[:len(batch)-1])
	}
	for {
		text, err := c.Read()
		if err != nil {
			return nil
		}
		end := text[max(0, len(text)-300):] // where a question is, behind the publications
		switch _, question, _ := bytes.Cut(end, []byte(`"nonce":"`)); {
		case question != nil:
			nonce, _, _ := bytes.Cut(question, []byte(`"`))
			err = c.Say(fmt.Sprintf(`{"action":"pong","nonce":%q}`, nonce))
		case bytes.Contains(end, []byte(`"action":"ping"`)):
			err = c.Say(testbus.Pong("me"))
		case bytes.Contains(end, []byte(`"action":"subscribe"`)):
			err = c.Say(fmt.Sprintf(`{"action":"subscribed","topic":%q}`, topic))
			go pour(conn, testbus.AppendFrame(nil, 1, []byte(message)), messages, received)
		}
		if err != nil {
			return err
		}
	}
}

func serveNATS(conn net.Conn, received *atomic.Int64, _ bool) error {
	if _, err := fmt.Fprintf(conn, "INFO {\"server_id\":\"peer\",\"version\":\"2.11.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n"); err != nil {
		return err
	}
	message := fmt.Sprintf("MSG %s 1 %d\r\n%s\r\n", topic, len(encoded), encoded)
	reader := bufio.NewReaderSize(conn, sizeOfWrite)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil
		}
		switch line[1] {
		case 'I': // PING
			_, err = conn.Write([]byte("PONG\r\n"))
		case 'U': // PUB or SUB
			if line[0] == 'S' {
				go pour(conn, []byte(message), 1, received)
			} else {
				_, err = reader.Discard(len(encoded) + len("\r\n"))
			}
		}
		if err != nil {
			return err
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
