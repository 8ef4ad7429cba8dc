package core

import "time"

// flow decides whether reading pauses: a client reads no faster than its program handles messages,
// so TCP slows the server down, and nothing is dropped.
//
// A subscription whose program finishes nothing for some time must not block the others, be it a
// callback that hangs or an iterator that nobody reads. So reading goes on without it, until its
// mailbox is full. When its program goes on, reading waits for it again.
//
// A callback may wait for an answer of the server, which comes behind the messages that we do not
// read. So while answers are due we wait less long, and then not until the mailbox is empty.
type flow struct {
	patience Time
	// asks tells whether answers of the server are due.
	asks    func() bool
	crowded map[*Subscription]struct{} // for which reading waits
	lookAt  Time
}

// watch is what the program has done with a crowded mailbox.
type watch struct {
	progress       int64
	changedAt      Time
	waitsForAnswer bool
}

const (
	lookEvery   = 250 * time.Millisecond
	whileAsking = 500 * time.Millisecond
)

func (w *watch) goesOn(sub *Subscription, now Time) bool {
	progress := sub.Begun.Load()
	if progress == w.progress {
		return false
	}
	w.progress, w.changedAt = progress, now
	return true
}

func (f *flow) isPaused() bool { return len(f.crowded) > 0 }

// note notes that a mailbox is above its high-water mark.
func (f *flow) note(sub *Subscription, now Time) {
	if _, ok := f.crowded[sub]; ok {
		return
	}
	if w := sub.watch; w == nil {
		sub.watch = &watch{progress: sub.Begun.Load(), changedAt: now}
	} else if w.waitsForAnswer || !w.goesOn(sub, now) {
		return
	}
	if len(f.crowded) == 0 {
		f.lookAt = now + min(lookEvery, f.patience/4)
	}
	f.crowded[sub] = struct{}{}
}

// relieved notes that a mailbox is below its low-water mark.
func (f *flow) relieved(sub *Subscription) {
	sub.watch = nil
	delete(f.crowded, sub)
}

func (f *flow) deadline() Time {
	if len(f.crowded) == 0 {
		return never
	}
	return f.lookAt
}

// tick stops waiting for mailboxes with which the program does not go on.
func (f *flow) tick(now Time) {
	if len(f.crowded) == 0 || now < f.lookAt {
		return
	}
	f.lookAt = now + min(lookEvery, f.patience/4)
	asks, patience := f.asks(), f.patience
	if asks {
		patience = min(patience, whileAsking)
	}
	for sub := range f.crowded {
		if w := sub.watch; !w.goesOn(sub, now) && now >= w.changedAt+patience {
			w.waitsForAnswer = asks
			delete(f.crowded, sub)
		}
	}
}
