package core

import "time"

type beat int

const (
	beatNothing beat = iota
	beatPing
	beatGone
)

// keepalive decides when to send a ping, and when the server counts as gone (spec, 2.7).
//
// While we do not read, we cannot see pongs, so silence means nothing. We still send a ping once
// per interval, so that the server hears from us.
type keepalive struct {
	interval, timeout Time
	heardAt           Time
	pingedAt          Time // of the ping that waits for a sign of life; never: there is none
	isPaused          bool
	beatAt            Time // when to send a ping whatever is heard, because we did not read
	hasForgiven       bool
}

// late is when a call is late. Then the process stood still, and what the server sent meanwhile may
// still be unread: it gets its time once more.
const late = time.Second

func (k *keepalive) begin(limits *Limits, now Time) {
	*k = keepalive{interval: limits.HeartbeatInterval, timeout: limits.HeartbeatTimeout,
		heardAt: now, pingedAt: never, beatAt: never}
}

func (k *keepalive) heard(now Time) {
	k.heardAt, k.pingedAt, k.hasForgiven = now, never, false
}

func (k *keepalive) setReading(reads bool, now Time) {
	k.isPaused = !reads
	k.heard(now) // bytes that have come meanwhile are not read yet
	if !reads {
		k.beatAt = min(k.beatAt, now+k.interval)
	}
}

func (k *keepalive) deadline() Time {
	switch {
	case k.isPaused:
		return k.beatAt
	case k.pingedAt != never:
		return min(k.beatAt, k.pingedAt+k.timeout)
	}
	return min(k.beatAt, k.heardAt+k.interval)
}

func (k *keepalive) check(now Time) beat {
	switch {
	case now < k.deadline():
		return beatNothing
	case k.isPaused:
		k.beatAt = now + k.interval
		return beatPing
	case k.pingedAt != never && now >= k.pingedAt+k.timeout:
		if now < k.pingedAt+k.timeout+late || k.hasForgiven {
			return beatGone
		}
		k.pingedAt, k.hasForgiven = now, true
		return beatPing
	case now >= k.heardAt+k.interval && k.pingedAt == never:
		k.pingedAt, k.beatAt = now, never
		return beatPing
	}
	k.beatAt = never // a sign of our life, as we did not read for a while
	return beatPing
}
