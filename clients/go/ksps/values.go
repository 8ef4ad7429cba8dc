package ksps

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"kps.internal/kps"
)

func messageOf(m *kps.Message) Message {
	return Message{Data: valueOf(m.Data), From: m.From}
}

// valueOf decodes JSON. Integers keep their digits.
func valueOf(data json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	return exact(value)
}

func exact(value any) any {
	switch v := value.(type) {
	case json.Number:
		return numberOf(string(v))
	case map[string]any:
		for name, member := range v {
			v[name] = exact(member)
		}
	case []any:
		for i, element := range v {
			v[i] = exact(element)
		}
	}
	return value
}

func numberOf(text string) any {
	if !strings.ContainsAny(text, ".eE") {
		if number, err := strconv.ParseInt(text, 10, 64); err == nil {
			return number
		}
		if number, err := strconv.ParseUint(text, 10, 64); err == nil {
			return number
		}
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return number
}

// readFrame reads a message of the server; what is of another type counts as missing.
func readFrame(frame json.RawMessage) WsMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(frame, &fields)
	var m WsMessage
	for name, text := range map[string]*string{
		"action": &m.Action, "topic": &m.Topic, "from": &m.From, "to": &m.To, "id": &m.ID, "error": &m.Error,
		"ack_id": &m.AckID,
	} {
		_ = json.Unmarshal(orNull(fields[name]), text)
	}
	_ = json.Unmarshal(orNull(fields["status"]), &m.Status)
	_ = json.Unmarshal(orNull(fields["responses"]), &m.Responses)
	m.Data = valueOf(orNull(fields["data"]))
	return m
}

func orNull(value json.RawMessage) json.RawMessage {
	if value == nil {
		return json.RawMessage("null")
	}
	return value
}
