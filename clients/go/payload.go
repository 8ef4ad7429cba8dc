package kps

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"unicode/utf8"

	"kps.internal/kps/internal/core"
)

// deepest is how many levels of arrays and objects a payload may have. Servers take 128 unless they
// are told otherwise.
const deepest = 250

// encode returns a payload as JSON. It is sure that servers can read it, since others may share a
// message with it.
func encode(value any) ([]byte, error) {
	w := borrow()
	defer w.giveBack()
	payload, err := w.encode(value)
	return bytes.Clone(payload), err
}

// writer encodes a payload. It is dear to make, so there are a few that everybody borrows.
type writer struct {
	buffer bytes.Buffer
	json   *json.Encoder
}

var writers = sync.Pool{New: func() any {
	w := &writer{}
	w.json = json.NewEncoder(&w.buffer)
	w.json.SetEscapeHTML(false)
	return w
}}

func borrow() *writer { return writers.Get().(*writer) }

func (w *writer) giveBack() {
	if w.buffer.Reset(); w.buffer.Cap() <= sizeOfRead {
		writers.Put(w)
	}
}

// encode encodes one payload, which is there until the writer is given back.
func (w *writer) encode(value any) ([]byte, error) {
	const most = 20 // bytes of a number
	w.buffer.Grow(most)
	room := w.buffer.AvailableBuffer()
	switch v := value.(type) {
	case nil:
		return append(room, "null"...), nil
	case string:
		w.buffer.Grow(len(v) + len(`""`)) // and more only where it has escapes
		return core.AppendText(w.buffer.AvailableBuffer(), v), nil
	case bool:
		return strconv.AppendBool(room, v), nil
	case int:
		return strconv.AppendInt(room, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(room, v, 10), nil
	case json.RawMessage:
		return checked(v)
	case []byte:
		return nil, &InvalidArgument{"bytes are no JSON: see kps.Bytes, or json.RawMessage if they are JSON"}
	}
	if err := w.json.Encode(value); err != nil {
		return nil, &InvalidArgument{"cannot be written as JSON: " + err.Error()}
	}
	return checked(w.buffer.Bytes())
}

// checked returns JSON as it is, without what stands around it.
func checked(value json.RawMessage) ([]byte, error) {
	if value == nil {
		return []byte("null"), nil
	}
	payload, reason := core.Check(value, deepest)
	if reason != "" {
		return nil, &InvalidArgument{"cannot be sent: " + reason}
	}
	return payload, nil
}

// encodeHeaders writes headers; nothing if there are none.
func encodeHeaders(headers map[string]string) ([]byte, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	for name, value := range headers {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, &InvalidArgument{fmt.Sprintf("the header %q is not UTF-8", name)}
		}
	}
	return encode(headers)
}

// Bytes are bytes in a payload, which JSON does not have: they go as {"$base64": "…"}, of which the
// clients in all languages make bytes again. They take a third more room.
type Bytes []byte

const base64Mark = "$base64"

// MarshalJSON writes the bytes as JSON.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if b == nil {
		return []byte("null"), nil
	}
	return json.Marshal(map[string]string{base64Mark: base64.StdEncoding.EncodeToString(b)})
}

// UnmarshalJSON reads them. It fails for anything but bytes that were written so, and null.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*b = nil
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil || len(members) != 1 || members[base64Mark] == nil {
		return &InvalidArgument{"these are no bytes as KPS writes them"}
	}
	var text string
	if json.Unmarshal(members[base64Mark], &text) != nil {
		return notBase64(members[base64Mark])
	}
	read, err := decodeBase64(text)
	*b = read
	return err
}

func decodeBase64(text string) (Bytes, error) {
	read, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(text)%4 != 0 {
		return nil, notBase64(text)
	}
	return read, nil
}

func notBase64(value any) error {
	return &InvalidArgument{fmt.Sprintf("this is not base64: %.100q", value)}
}

// PackBytes returns a payload for sending in which each []byte has become [Bytes], at any depth of
// values of the types map[string]any and []any; all else remains as it is. It refuses a map that
// looks like such bytes itself.
func PackBytes(value any) (any, error) {
	switch v := value.(type) {
	case []byte:
		return Bytes(v), nil
	case map[string]any:
		if _, ok := v[base64Mark]; ok && len(v) == 1 {
			return nil, &InvalidArgument{"a map with " + base64Mark + " alone stands for bytes"}
		}
		return eachMember(v, PackBytes)
	case []any:
		return eachElement(v, PackBytes)
	}
	return value, nil
}

// UnpackBytes does the reverse for a payload that was decoded into an any: each object with the
// single member $base64 has become a []byte. It refuses one whose value is not base64.
func UnpackBytes(value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		if marked, ok := v[base64Mark]; ok && len(v) == 1 {
			text, ok := marked.(string)
			if !ok {
				return nil, notBase64(marked)
			}
			read, err := decodeBase64(text)
			return []byte(read), err
		}
		return eachMember(v, UnpackBytes)
	case []any:
		return eachElement(v, UnpackBytes)
	}
	return value, nil
}

func eachMember(members map[string]any, change func(any) (any, error)) (any, error) {
	changed := make(map[string]any, len(members))
	for name, value := range members {
		var err error
		if changed[name], err = change(value); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func eachElement(elements []any, change func(any) (any, error)) (any, error) {
	changed := make([]any, len(elements))
	for i, value := range elements {
		var err error
		if changed[i], err = change(value); err != nil {
			return nil, err
		}
	}
	return changed, nil
}
