package kps

import (
	"context"
	"encoding/json"

	"kps.internal/kps/internal/core"
)

// Presence is who is subscribed to a topic, and what has changed since the last time.
type Presence struct {
	Topic string
	// Members are what each member says about itself, by id: nil if it says nothing. The map is nil
	// where there are so many members that the server tells only their number.
	Members map[string]json.RawMessage
	Count   int
	// Version is the number of the latest change, which grows; -1: nobody looks.
	Version int64

	// Joined are the members that are new, and Updated those that say something else about
	// themselves.
	Joined, Updated map[string]json.RawMessage
	// Left has the reasons why members have left: "unsubscribed", "closed", "lost" (the connection
	// broke), "replaced" (another connection took the id), "renamed", and "unknown" if that was
	// while this client had no connection.
	Left map[string]string
}

func presenceOf(p *core.Presence) *Presence {
	return &Presence{p.Topic, rawMap(p.Members), int(p.Count), p.Version,
		rawMap(p.Joined), rawMap(p.Updated), p.Left}
}

func rawMap(values map[string][]byte) map[string]json.RawMessage {
	if values == nil {
		return nil
	}
	raw := make(map[string]json.RawMessage, len(values))
	for name, value := range values {
		raw[name] = value
	}
	return raw
}

// Presence asks who is subscribed to a topic, and not to patterns that have it. It fails with a
// *[ServerError] of the code "forbidden" if this client may not know, with an *[Unsupported], and as
// [Client.Flush] does.
func (c *Client) Presence(ctx context.Context, topic string) (*Presence, error) {
	q, err := c.ask(ctx, func(changed func()) (*core.Question, *core.Error) {
		return c.session.AskPresence(topic, c.now(), changed)
	})
	if err != nil {
		return nil, err
	}
	return presenceOf(q.Presence), nil
}
