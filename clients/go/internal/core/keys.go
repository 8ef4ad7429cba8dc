package core

import (
	"strings"
	"unicode/utf8"
)

// Key is what a subscription is to.
type Key struct {
	Topic     string // or the text of the pattern; empty: direct messages
	IsPattern bool
	Group     string // of which it makes a member; empty: of none
}

func (k Key) isTopic() bool { return !k.IsPattern && k.Group == "" }

// has tells whether a subscription to it, as no member of a group, gets what is published on a
// topic.
func (k Key) has(topic string) bool {
	if k.Group != "" {
		return false
	}
	if k.IsPattern {
		return selects(k.Topic, topic)
	}
	return k.Topic == topic
}

// needs returns the features that a subscription needs.
func (k Key) needs() features {
	var needed features
	if k.IsPattern {
		needed |= Patterns
	}
	if k.Group != "" {
		needed |= Groups
	}
	return needed
}

// Name is how a program reads it.
func (k Key) Name() string {
	if k.Group != "" {
		return k.Group + " of " + k.Topic
	}
	return k.Topic
}

// selects tells whether a subscription to a pattern has a topic (spec, 14.2). A topic that begins
// with "__" only counts if the pattern begins with the same characters, up to its first "/".
func selects(pattern, topic string) bool {
	if topic == "" {
		return false
	}
	if strings.HasPrefix(topic, "__") {
		hidden := topic
		if slash := strings.IndexByte(topic, '/'); slash >= 0 {
			hidden = topic[:slash+1]
		}
		head, _, _ := strings.Cut(pattern, "*")
		if !strings.HasPrefix(head, hidden) {
			return false
		}
	}
	return Matches(pattern, topic)
}

// Matches tells whether a text matches a pattern: "*" stands for any characters but "/", "**" for
// any, and each also for none.
//
// A star first stands for nothing, and then for one character more whenever what follows does not
// match. It is enough to go back to the last "*", and where that cannot take more, to the last
// "**": an earlier star could only reach what these reach too.
func Matches(pattern, text string) bool {
	p, t := 0, 0
	type place struct{ p, t int } // behind a star, and what it has taken so far
	narrow, wide := place{p: -1}, place{p: -1}
	for t < len(text) || p < len(pattern) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			stars := p
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			if p-stars == 1 {
				narrow = place{p, t}
			} else {
				wide, narrow = place{p, t}, place{p: -1}
			}
		case p < len(pattern) && t < len(text) && pattern[p] == text[t]:
			p++
			t++
		case narrow.p >= 0 && narrow.t < len(text) && text[narrow.t] != '/':
			narrow.t++
			p, t = narrow.p, narrow.t
		case wide.p >= 0 && wide.t < len(text):
			wide.t++
			narrow = place{p: -1}
			p, t = wide.p, wide.t
		default:
			return false
		}
	}
	return true
}

// checkName returns an error unless a text of the program can be a name in a message.
func checkName(what, name string, most int) *Error {
	if name == "" {
		return errorf(InvalidArgument, "%s is a text that is not empty", what)
	}
	if len(name) > most && utf8.RuneCountInString(name) > most {
		return errorf(InvalidArgument, "%s has at most %d characters", what, most)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c < ' ' || c >= 0x7F {
			return checkRunes(what, name)
		}
	}
	return nil
}

func checkRunes(what, name string) *Error {
	if !utf8.ValidString(name) {
		return errorf(InvalidArgument, "%s is UTF-8, unlike %q", what, name)
	}
	for _, r := range name {
		if r < ' ' || 0x7F <= r && r <= 0x9F {
			return errorf(InvalidArgument, "%s has no control characters, unlike %q", what, name)
		}
	}
	return nil
}

func checkTopic(topic string) *Error { return checkName("a topic", topic, longestName) }

func checkID(id string) *Error { return checkName("an id", id, longestName) }

func checkKey(key Key) *Error {
	if key.IsPattern {
		if err := checkName("a pattern", key.Topic, longestName); err != nil {
			return err
		}
	} else if err := checkTopic(key.Topic); err != nil {
		return err
	}
	if key.Group != "" {
		return checkName("a group", key.Group, longestName)
	}
	return nil
}

// features is a set of what a server has (spec, 12.1).
type features uint8

// The features that this client knows.
const (
	Patterns features = 1 << iota
	History
	Expect
	Presences
	Groups
	Headers
	MessageIDs
)

var featureNames = []string{
	"patterns", "history", "expect", "presence", "groups", "headers", "message_ids",
}

func featuresIn(array []byte) features {
	var found features
	for element := range elements(array) {
		name := textOr(element)
		for i, known := range featureNames {
			if name == known {
				found |= 1 << i
			}
		}
	}
	return found
}

// missing returns the name of one of the needed features that are not there.
func (f features) missing(needed features) string {
	for i, name := range featureNames {
		if needed&^f&(1<<i) != 0 {
			return name
		}
	}
	return ""
}
