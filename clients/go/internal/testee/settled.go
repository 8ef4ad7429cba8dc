package main

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// settled returns when no other goroutine has anything to do: what the steps before have led to
// without the network has been told.
func settled() {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines/runnable:goroutines"},
		{Name: "/sched/goroutines/running:goroutines"},
	}
	quiet := 0
	for end := time.Now().Add(200 * time.Millisecond); quiet < 3 && time.Now().Before(end); {
		runtime.Gosched()
		metrics.Read(samples)
		if samples[0].Value.Kind() == metrics.KindBad { // Go 1.25 does not tell
			time.Sleep(10 * time.Millisecond)
			return
		}
		if samples[0].Value.Uint64() == 0 && samples[1].Value.Uint64() <= 1 {
			quiet++
		} else {
			quiet = 0
		}
	}
}
