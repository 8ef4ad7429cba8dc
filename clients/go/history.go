package kps

import (
	"context"

	"kps.internal/kps/internal/core"
)

// Past are messages of a topic with history.
type Past struct {
	// Messages are those that were asked for, the oldest first.
	Messages []*Message
	// Position is the place behind the last one, to go on with.
	Position Position
	// Recovered tells whether nothing is missing behind the position that was given.
	Recovered bool
	// Lost is how many messages are missing otherwise; -1: nobody knows.
	Lost int
}

// History returns messages of a topic with history: the first ones behind [Since], or else the
// latest, up to [Limit]. It fails with a *[ServerError] of the code "no_history" for a topic without
// history, with an *[Unsupported], and as [Client.Flush] does.
func (c *Client) History(ctx context.Context, topic string, options ...SubscribeOption) (*Past, error) {
	o, err := readSubscribeOptions(topic, options)
	if err != nil {
		return nil, err
	}
	if o.key.IsPattern || o.key.Group != "" || o.hasInfo || o.observer != nil || o.start.Last > 0 {
		return nil, &InvalidArgument{"History takes Since and Limit"}
	}
	limit := int64(o.limit)
	if limit == 0 {
		limit = 100
	}
	past := &Past{Recovered: true, Lost: 0}
	start := o.start
	for {
		start.Last = limit - int64(len(past.Messages))
		q, err := c.ask(ctx, func(changed func()) (*core.Question, *core.Error) {
			return c.session.AskPast(topic, &start, c.now(), changed)
		})
		if err != nil {
			return nil, err
		}
		if !past.add(q.Past) || int64(len(past.Messages)) >= limit {
			return past, nil
		}
		start.Since = &core.Position{Epoch: past.Position.Epoch, Offset: past.Position.Offset}
	}
}

// add adds an answer; it tells whether there is more.
func (p *Past) add(answer *core.Past) bool {
	if len(p.Messages) > 0 && answer.Epoch != p.Position.Epoch {
		// They were forgotten meanwhile, and what comes now is something else.
		p.Recovered, p.Lost = false, -1
		return false
	}
	if !answer.IsWhole {
		if p.Recovered {
			p.Lost = int(answer.Lost)
		} else {
			p.Lost = -1
		}
		p.Recovered = false
	}
	p.Position = Position{answer.Epoch, answer.Offset}
	for i := range answer.Messages {
		p.Messages = append(p.Messages, newMessage(&answer.Messages[i]))
		p.Position = p.Messages[len(p.Messages)-1].Position
	}
	return len(answer.Messages) > 0 && int64(len(answer.Messages)) < answer.Coming
}
