package core

// The messages of a client, in the wording of each level (spec, 4 and 12).

// Publication is something that the program sends and that wants no answer.
type Publication struct {
	Kind    PublicationKind
	Target  string // topic, id or address
	Data    []byte
	Headers []byte
	Secure  bool // of another server: whether to use TLS
}

// PublicationKind tells to whom a publication goes.
type PublicationKind byte

// The kinds of publications.
const (
	ToTopic PublicationKind = iota
	ToID
	ToServer
)

func (p *Publication) write(id string, level int) []byte {
	var o object
	switch p.Kind {
	case ToTopic:
		o = newObject("publish").text("topic", p.Target)
	case ToID:
		o = newObject("direct_message").text("to", p.Target)
	case ToServer:
		o = newObject("publish_to_server").text("to", p.Target)
		o = append(o.name("status"), `{"is_secure":`...)
		if p.Secure {
			o = append(o, "true}"...)
		} else {
			o = append(o, "false}"...)
		}
	}
	if level > 1 {
		o = o.rawIf("headers", p.Headers)
	}
	return from(o.raw("data", p.Data), id, level).end()
}

// from adds the sender, as clients of level 1 do.
func from(o object, id string, level int) object {
	if level > 1 {
		return o
	}
	return o.text("from", id)
}

// writeGreeting writes the first message of a connection, which offers a level.
func writeGreeting(id string, level int) []byte {
	o := newObject("ping").text("from", id)
	if level > 1 {
		o = o.number("proto", int64(level))
	}
	return o.end()
}

func writePing(id, nonce string) []byte {
	o := newObject("ping").text("from", id).number("proto", 2)
	return o.text("nonce", nonce).end()
}

func (k Key) appendTo(o object) object {
	name := "topic"
	if k.IsPattern {
		name = "pattern"
	}
	return o.text(name, k.Topic).textIf("group", k.Group)
}

func writeSubscribe(key Key, more object, id string, level int) []byte {
	o := key.appendTo(newObject("subscribe"))
	return from(append(o, more...), id, level).end()
}

func writeUnsubscribe(key Key, id string, level int) []byte {
	return from(key.appendTo(newObject("unsubscribe")), id, level).end()
}

// writeAbout writes a question about an ack request.
func writeAbout(action, ackID, id string, level int) []byte {
	return from(newObject(action).text("ack_id", ackID), id, level).end()
}

// write writes an ack request; until is 0 unless it is a repeat.
func (r *Request) write(ackID, id string, timeout Time, until float64, level int) []byte {
	var o object
	if r.ToID {
		o = newObject("publish_to_id_with_ack").text("to", r.Target)
	} else {
		o = newObject("publish_with_ack").text("topic", r.Target)
	}
	o = o.text("ack_id", ackID).float("timeout", timeout.Seconds())
	if level > 1 {
		o = r.appendID(o.truth("updates", true).rawIf("headers", r.Headers), until)
		o = r.appendDemands(o)
	}
	return from(o.raw("data", r.Data), id, level).end()
}

func (r *Request) appendDemands(o object) object {
	if len(r.Expect)+len(r.ExpectGroups) > 0 {
		o = append(o.name("expect"), '[')
		for i, id := range r.Expect {
			if i > 0 {
				o = append(o, ',')
			}
			o = appendText(o, id)
		}
		for i, group := range r.ExpectGroups {
			if i > 0 || len(r.Expect) > 0 {
				o = append(o, ',')
			}
			o = append(appendText(append(o, `{"group":`...), group), '}')
		}
		o = append(o, ']')
	}
	o = o.textIf("key", r.Key)
	if r.Retry > 0 {
		o = o.number("retry", int64(r.Retry))
	}
	return o
}

func (r *Request) appendID(o object, until float64) object {
	if until == 0 {
		return o.textIf("message_id", r.MessageID)
	}
	return o.text("message_id", r.MessageID).float("repeat_until", until)
}

func (r *Request) writeReceipt(receipt string, until float64) []byte {
	o := newObject("publish").text("topic", r.Target).text("receipt", receipt)
	return r.appendID(o.rawIf("headers", r.Headers), until).raw("data", r.Data).end()
}

func writeAck(ack *Acknowledgement, id string, level int) []byte {
	ack.failure = shortened(ack.failure)
	o := newObject("ack").text("ack_id", ack.ackID)
	if level == 1 {
		// The outcome stands in an object of its own, which begins without a comma.
		inner := append(object{'{'}, object(nil).text("ack_id", ack.ackID)[1:]...)
		inner = inner.text("client_id", id).truth("success", !ack.failed)
		if ack.failed {
			inner = inner.text("error", ack.failure)
		}
		return o.text("from", id).raw("data", inner.end()).end()
	}
	o = o.truth("success", !ack.failed)
	switch {
	case !ack.failed:
		o = o.rawIf("result", ack.result)
	default:
		o = o.text("error", ack.failure)
		if ack.notBegun {
			o = o.truth("begun", false)
		}
	}
	return o.end()
}

// shortened returns an error text, cut off where it is too long.
func shortened(text string) string {
	if len(text) > longestError {
		if runes := []rune(text); len(runes) > longestError {
			return string(runes[:longestError])
		}
	}
	return text
}

// unwrap returns the payload and the sender of a delivery on level 1 (spec, 4.8).
func unwrap(m *incoming) (data []byte, sender string) {
	found := false
	for name, value := range members(m.data) {
		switch string(name) {
		case `"data"`:
			data, found = value, true
		case `"from"`:
			sender = textOr(value)
		}
	}
	if !found {
		return payload(m.data), m.from
	}
	return data, sender
}
