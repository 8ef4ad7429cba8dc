package core

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// deepest is how many levels of arrays and objects a message of the server may have: those of a
// payload, and some around it.
const deepest = 140

// incoming is a message of the server. Bytes in it are those of the frame, and only valid while
// that is handled.
type incoming struct {
	action, topic, from, id, err, ackID string
	code, request, pattern, group, to   string
	nonce, receipt, epoch               string

	data, headers, responses, groups, missing, refused []byte
	limits, features, messageIDs, proto                []byte
	members, joined, left, presence, status, messages  []byte
	offset, mark, coming, recovered, lost              []byte
	delivered, count, version, attempt                 []byte

	// A batch has several payloads, from one place to another among those of the frame.
	hasBatch                    bool
	firstPayload, endOfPayloads int

	all []byte // the whole message
}

// parser reads frames. It keeps what it needs for that, so that the usual message costs nothing.
type parser struct {
	messages []incoming
	payloads [][]byte
	texts    map[string]string
}

const mostTexts = 1024 // that a parser remembers

// read reads the messages in a frame. What cannot be read at all is told in words; a message that
// breaks the rules of the envelope has them in its place, as its action "".
func (p *parser) read(frame []byte, isText bool) ([]incoming, string) {
	p.messages, p.payloads = p.messages[:0], p.payloads[:0]
	if !isText && !utf8.Valid(frame) {
		return nil, "message is not valid JSON"
	}
	i, end := skipSpace(frame, 0), invalid
	if i < len(frame) && frame[i] == '[' {
		end = p.readArray(frame, i)
	} else {
		end = p.readOne(frame, i, deepest)
	}
	switch {
	case end == tooDeep:
		return nil, "message nested too deeply"
	case end < 0 || skipSpace(frame, end) < len(frame):
		return nil, "message is not valid JSON"
	}
	return p.messages, ""
}

func (p *parser) readArray(frame []byte, i int) int {
	i = skipSpace(frame, i+1)
	if i < len(frame) && frame[i] == ']' {
		return i + 1
	}
	for {
		if i = p.readOne(frame, i, deepest-1); i < 0 {
			return i
		}
		if i = skipSpace(frame, i); i >= len(frame) {
			return invalid
		}
		switch frame[i] {
		case ',':
			i = skipSpace(frame, i+1)
		case ']':
			return i + 1
		default:
			return invalid
		}
	}
}

// fault marks a message that breaks the rules of the envelope; err has the words.
const fault = "\x00"

// readOne reads the message that begins at frame[i], and returns its end.
func (p *parser) readOne(frame []byte, i, depth int) int {
	begin := i
	p.messages = append(p.messages, incoming{})
	m := &p.messages[len(p.messages)-1]
	if i >= len(frame) || frame[i] != '{' {
		m.action, m.err = fault, "message is not a JSON object"
		return skip(frame, i, depth)
	}
	i = skipSpace(frame, i+1)
	if i < len(frame) && frame[i] == '}' {
		m.all = frame[begin : i+1]
		return i + 1
	}
	broken := ""
	for {
		if i >= len(frame) || frame[i] != '"' {
			return invalid
		}
		end := skipText(frame, i)
		if end < 0 {
			return end
		}
		name := frame[i:end]
		if i = skipSpace(frame, end); i >= len(frame) || frame[i] != ':' {
			return invalid
		}
		if i = p.readMember(m, name, frame, skipSpace(frame, i+1), depth-1, &broken); i < 0 {
			return i
		}
		if i = skipSpace(frame, i); i >= len(frame) {
			return invalid
		}
		if frame[i] == '}' {
			break
		}
		if frame[i] != ',' {
			return invalid
		}
		i = skipSpace(frame, i+1)
	}
	m.all = frame[begin : i+1]
	if broken != "" {
		m.action, m.err = fault, "field "+broken+" must be a string"
	}
	return i + 1
}

// readMember reads one member of a message, whose value begins at frame[i]. A field that is no
// text, and should be one, is named in broken.
func (p *parser) readMember(
	m *incoming, name, frame []byte, i, depth int, broken *string,
) int {
	if string(name) == `"batch"` && i < len(frame) && frame[i] == '[' {
		return p.readBatch(m, frame, i, depth-1)
	}
	end := skip(frame, i, depth)
	if end < 0 {
		return end
	}
	value := frame[i:end]
	switch string(name) {
	case `"action"`:
		m.action = p.strict(value, "action", broken)
	case `"topic"`:
		m.topic = p.strict(value, "topic", broken)
	case `"from"`:
		m.from = p.strict(value, "from", broken)
	case `"to"`:
		m.to = p.strict(value, "to", broken)
	case `"id"`:
		m.id = p.strict(value, "id", broken)
	case `"error"`:
		m.err = p.strict(value, "error", broken)
	case `"ack_id"`:
		if value[0] != '"' && value[0] != 'n' {
			*broken = "ack_id"
		}
		m.ackID = textOr(value) // each one differs: there is no use in remembering it
	case `"data"`:
		m.data = value
	case `"batch"`:
		m.hasBatch = false
	case `"headers"`:
		m.headers = value
	case `"offset"`:
		m.offset = value
	case `"epoch"`:
		m.epoch = p.intern(value)
	case `"group"`:
		m.group = p.intern(value)
	case `"pattern"`:
		m.pattern = p.intern(value)
	case `"attempt"`:
		m.attempt = value
	case `"responses"`:
		m.responses = value
	case `"groups"`:
		m.groups = value
	case `"missing"`:
		m.missing = value
	case `"receipt"`:
		m.receipt = textOr(value)
	case `"delivered"`:
		m.delivered = value
	case `"nonce"`:
		m.nonce = textOr(value)
	default:
		if bytes.IndexByte(name, '\\') < 0 {
			m.readRare(name, value)
		} else if plain := textOr(name); !strings.ContainsAny(plain, `\"`) {
			// What is written with escapes is the same.
			return p.readMember(m, []byte(`"`+plain+`"`), frame, i, depth, broken)
		}
	}
	return end
}

func (m *incoming) readRare(name, value []byte) {
	switch string(name[1 : len(name)-1]) {
	case "code":
		m.code = textOr(value)
	case "request":
		m.request = textOr(value)
	case "refused":
		m.refused = value
	case "limits":
		m.limits = value
	case "features":
		m.features = value
	case "message_ids":
		m.messageIDs = value
	case "proto":
		m.proto = value
	case "members":
		m.members = value
	case "joined":
		m.joined = value
	case "left":
		m.left = value
	case "presence":
		m.presence = value
	case "status":
		m.status = value
	case "messages":
		m.messages = value
	case "mark":
		m.mark = value
	case "coming":
		m.coming = value
	case "recovered":
		m.recovered = value
	case "lost":
		m.lost = value
	case "count":
		m.count = value
	case "version":
		m.version = value
	}
}

func (p *parser) readBatch(m *incoming, frame []byte, i, depth int) int {
	if depth < 0 {
		return tooDeep
	}
	m.firstPayload = len(p.payloads)
	i = skipSpace(frame, i+1)
	for i < len(frame) && frame[i] != ']' {
		end := skip(frame, i, depth)
		if end < 0 {
			return end
		}
		p.payloads = append(p.payloads, frame[i:end])
		if i = skipSpace(frame, end); i < len(frame) && frame[i] == ',' {
			if i = skipSpace(frame, i+1); i < len(frame) && frame[i] == ']' {
				return invalid
			}
		} else if i < len(frame) && frame[i] != ']' {
			return invalid
		}
	}
	if i >= len(frame) {
		return invalid
	}
	m.hasBatch, m.endOfPayloads = true, len(p.payloads)
	return i + 1
}

// payloadsOf returns the payloads of a publication.
func (p *parser) payloadsOf(m *incoming) [][]byte {
	if m.hasBatch {
		return p.payloads[m.firstPayload:m.endOfPayloads]
	}
	p.payloads = append(p.payloads, payload(m.data))
	return p.payloads[len(p.payloads)-1:]
}

var null = []byte("null")

// payload returns a payload, which is null if there is none.
func payload(value []byte) []byte {
	if len(value) == 0 {
		return null
	}
	return value
}

// strict returns a text that must be one, or null (spec, 3.3).
func (p *parser) strict(value []byte, name string, broken *string) string {
	if value[0] != '"' && value[0] != 'n' {
		*broken = name
	}
	return p.intern(value)
}

const longestText = 256 // bytes of a text that is remembered

// intern returns a text, as the same string each time.
func (p *parser) intern(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	if text, ok := p.texts[string(value)]; ok {
		return text
	}
	text, _ := textOf(value)
	if len(value) <= longestText {
		if len(p.texts) >= mostTexts || p.texts == nil {
			p.texts = make(map[string]string)
		}
		p.texts[string(value)] = text
	}
	return text
}

// key returns what an answer of the server is about.
func (m *incoming) key() Key {
	if m.pattern != "" {
		return Key{Topic: m.pattern, IsPattern: true, Group: m.group}
	}
	return Key{Topic: m.topic, Group: m.group}
}

// slab gives memory to the payloads of one frame: many small ones share some, so that a payload
// that the program keeps keeps little else.
type slab struct{ free []byte }

const sizeOfSlab = 4096

func (s *slab) copy(value []byte, more int) []byte {
	if len(value) > sizeOfSlab/4 {
		s.free = nil
		return append([]byte(nil), value...)
	}
	if len(value) > cap(s.free)-len(s.free) {
		s.free = make([]byte, 0, max(len(value), min(more, sizeOfSlab)))
	}
	begin := len(s.free)
	s.free = append(s.free, value...)
	return s.free[begin:len(s.free):len(s.free)]
}
