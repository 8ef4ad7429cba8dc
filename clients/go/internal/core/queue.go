package core

const (
	sizeOfChunk = 128 // messages
	mostChunks  = 128 // that are kept for later
)

// queue is a queue of messages. Its memory comes in chunks, which all queues of a client share: so a
// queue that was long costs nothing when it is empty, and one that grows copies nothing.
type queue struct {
	first, last *chunk
	head, tail  int // in the first chunk, and in the last one
	count       int
}

type chunk struct {
	messages [sizeOfChunk]Message
	next     *chunk
}

// chunks are those that no queue has at the moment.
type chunks struct {
	free  *chunk
	count int
}

func (c *chunks) get() *chunk {
	one := c.free
	if one == nil {
		return new(chunk)
	}
	c.free, one.next = one.next, nil
	c.count--
	return one
}

func (c *chunks) put(one *chunk) {
	if c.count < mostChunks {
		one.next, c.free = c.free, one
		c.count++
	}
}

func (q *queue) push(message *Message, memory *chunks) {
	if q.last == nil {
		q.first = memory.get()
		q.last, q.head, q.tail = q.first, 0, 0
	} else if q.tail == sizeOfChunk {
		q.last.next = memory.get()
		q.last, q.tail = q.last.next, 0
	}
	q.last.messages[q.tail] = *message
	q.tail++
	q.count++
}

// pop removes the oldest messages, as many as there are in one place and most allows, and appends
// them to dst. One that wants an ack comes alone.
func (q *queue) pop(dst []Message, most int, memory *chunks) []Message {
	end := sizeOfChunk
	if q.first == q.last {
		end = q.tail
	}
	end = min(end, q.head+most)
	for i := q.head; i < end; i++ {
		if q.first.messages[i].Ack != nil {
			end = max(i, q.head+1)
		}
	}
	taken := q.first.messages[q.head:end]
	dst = append(dst, taken...)
	clear(taken) // the memory of the payloads
	q.count -= len(taken)
	if q.head = end; q.count == 0 || q.head == sizeOfChunk {
		done := q.first
		if q.first, q.head = done.next, 0; q.first == nil {
			q.last = nil
		}
		memory.put(done)
	}
	return dst
}
