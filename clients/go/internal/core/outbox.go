package core

import (
	"bytes"

	"kps.internal/kps/internal/ws"
)

const (
	// largestJoined is the size of a message up to which others join it. It is large enough to
	// make the cost of each frame negligible.
	largestJoined = 64 * 1024
	mostJoined    = 65_536  // messages of an array, payloads of a batch (spec, 13.5)
	mostBrackets  = 70_000  // in a message (spec, 13.5); one of largestJoined cannot have so many
	costOfEntry   = 64      // bytes that a message in the queue takes besides its own
	mostKept      = 2 << 20 // bytes of memory of an empty queue
)

// outbox is the queue of messages for the server. On level 2 what waits at the moment of writing
// leaves together: publications on one topic as a batch, and all messages as an array.
type outbox struct {
	joins   bool
	largest int // bytes of what is joined

	buf     []byte // the messages, one directly behind the other
	base    int64  // the position of the beginning of buf in the stream of all messages
	gone    int64  // the position up to which everything was taken
	entries []entry
	head    int // of the entries
	sent    int // number of messages that were ever queued

	taken []taken // frames with publications in what was taken last
}

// entry is one message in the queue.
type entry struct {
	end  int64 // the position behind it
	size int
	// publications is how many the program has made; 0: it is something else.
	publications int
	// topic is that of a batch that others may join, and payload the position of its first one.
	topic   string
	payload int64
}

type taken struct {
	end          int // in the bytes that were taken
	publications int
}

func (o *outbox) waiting() int { return len(o.entries) - o.head }

// size is the number of bytes that wait.
func (o *outbox) size() int {
	return int(o.end()-o.gone) + o.waiting()*costOfEntry
}

// end is the position behind everything that waits.
func (o *outbox) end() int64 { return o.base + int64(len(o.buf)) }

// put queues a message.
func (o *outbox) put(message []byte, publications int) {
	o.buf = append(o.buf, message...)
	o.note(len(message), publications)
}

func (o *outbox) note(size, publications int) {
	o.entries = append(o.entries, entry{end: o.end(), size: size, publications: publications})
	o.sent++
}

// publish queues a publication without anything besides, or adds it to the last batch.
func (o *outbox) publish(topic string, payload []byte) {
	if o.waiting() > 0 && o.join(&o.entries[len(o.entries)-1], topic, payload) {
		return
	}
	begin := len(o.buf)
	message := appendObject(o.buf, "publish").text("topic", topic).name("data")
	first := o.base + int64(len(message))
	o.buf = append(append(message, payload...), '}')
	o.note(len(o.buf)-begin, 1)
	last := &o.entries[len(o.entries)-1]
	last.topic, last.payload = topic, first
}

// join adds a payload to a batch, if it is one that has room.
func (o *outbox) join(batch *entry, topic string, payload []byte) bool {
	const more = len(`[],`) + len(`batch`) - len(`data`)
	if batch.topic != topic || topic == "" || batch.publications >= mostJoined ||
		batch.size+len(payload)+more > o.largest {
		return false
	}
	before := len(o.buf)
	if batch.publications == 1 {
		// What is the only payload becomes the first of several.
		first := int(batch.payload - o.base)
		o.buf = append(o.buf[:before-1], "  "...)
		copy(o.buf[first+2:], o.buf[first:before-1])
		copy(o.buf[first-len(`"data":`):], `"batch":[`)
	} else {
		o.buf = o.buf[:before-len(`]}`)]
	}
	o.buf = append(o.buf, ',')
	o.buf = append(o.buf, payload...)
	o.buf = append(o.buf, `]}`...)
	batch.publications++
	batch.size += len(o.buf) - before
	batch.end = o.end()
	o.sent++
	return true
}

// take appends frames with up to about limit bytes of what waits. keys gives each its mask.
func (o *outbox) take(dst []byte, limit int, keys func() uint32) []byte {
	o.taken = o.taken[:0]
	for o.waiting() > 0 && len(dst) < limit {
		entries := o.entries[o.head:]
		count, size := 1, entries[0].size
		if o.joins {
			size += len(`[]`)
			for count < len(entries) && count < mostJoined &&
				size+1+entries[count].size <= o.largest {
				size += 1 + entries[count].size
				count++
			}
			if count == 1 {
				size = entries[0].size
			}
		}
		key := keys()
		dst = ws.AppendHeader(dst, ws.Text, size, key)
		begin := len(dst)
		dst = o.append(dst, entries[:count])
		ws.Mask(dst[begin:], key)
		publications := 0
		for i := range entries[:count] {
			publications += entries[i].publications
		}
		o.taken = append(o.taken, taken{len(dst), publications})
		o.drop(count)
	}
	return dst
}

// append appends messages, as an array if there are several.
func (o *outbox) append(dst []byte, entries []entry) []byte {
	if len(entries) == 1 {
		return append(dst, o.message(&entries[0])...)
	}
	dst = append(dst, '[')
	for i := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, o.message(&entries[i])...)
	}
	return append(dst, ']')
}

func (o *outbox) message(e *entry) []byte {
	end := int(e.end - o.base)
	return o.buf[end-e.size : end]
}

// drop removes the first entries.
func (o *outbox) drop(count int) {
	o.gone = o.entries[o.head+count-1].end
	clear(o.entries[o.head : o.head+count])
	o.head += count
	switch start := int(o.gone - o.base); {
	case o.waiting() == 0:
		o.base, o.buf = o.gone, o.buf[:0]
		o.entries, o.head = o.entries[:0], 0
		if cap(o.buf) > mostKept {
			o.release()
		}
	case start > len(o.buf)/2 && start > largestJoined:
		o.base, o.buf = o.gone, append(o.buf[:0], o.buf[start:]...)
		o.entries, o.head = append(o.entries[:0], o.entries[o.head:]...), 0
	}
}

// release gives the memory of a queue back that is empty.
func (o *outbox) release() {
	if o.waiting() == 0 {
		o.buf, o.entries = nil, nil
	}
}

// lost returns how many publications were not written of what was taken last.
func (o *outbox) lost(written int) int {
	count := 0
	for _, frame := range o.taken {
		if frame.end > written {
			count += frame.publications
		}
	}
	o.taken = o.taken[:0]
	return count
}

// unsent returns the messages with publications that still wait, and how many these are.
func (o *outbox) unsent() (messages [][]byte, publications int) {
	for i := range o.entries[o.head:] {
		if e := &o.entries[o.head+i]; e.publications > 0 {
			messages = append(messages, o.message(e))
			publications += e.publications
		}
	}
	return messages, publications
}

// tooManyBrackets tells whether a message has more brackets than servers take.
func tooManyBrackets(message []byte) bool {
	return len(message) > mostBrackets &&
		bytes.Count(message, []byte{'['})+bytes.Count(message, []byte{'{'}) > mostBrackets
}
