package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const topic = "bench"

// inFlight is how many messages are under way at most, far below the bounds of all queues.
const inFlight = 20_000

// counter is the number of messages that a subscriber has, in memory that two processes share.
func counter(path string) (*atomic.Int64, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	shared, err := syscall.Mmap(int(file.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*atomic.Int64)(unsafe.Pointer(&shared[0])), nil
}

// subscribe LIBRARY ADDRESS PROGRESS subscribes until it is ended.
func subscribe(arguments []string) (found, error) {
	received, err := counter(arguments[2])
	if err != nil {
		return nil, err
	}
	c, err := connect(arguments[0], arguments[1])
	if err == nil {
		err = c.subscribe(topic, func() { received.Add(1) })
	}
	if err != nil {
		return nil, err
	}
	serve(found{"ready": true})
	return nil, nil
}

// publish LIBRARY ADDRESS PROGRESS SECONDS PID… publishes for some time, and tells when all has
// arrived. The processes are the server and the subscriber, whose work is measured too.
func publish(arguments []string) (found, error) {
	received, err := counter(arguments[2])
	if err != nil {
		return nil, err
	}
	c, err := connect(arguments[0], arguments[1])
	if err != nil {
		return nil, err
	}
	sent := int64(0)
	wait := func(count int64) error {
		for end := time.Now().Add(patience); received.Load() < count; time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%d of %d messages did not arrive", sent-received.Load(), sent)
			}
		}
		return nil
	}
	run := func(until time.Time) error {
		for {
			if err := c.publish(topic); err != nil {
				return err
			}
			if sent++; sent%16 == 0 {
				if time.Now().After(until) {
					break
				}
				if err := wait(sent - inFlight); err != nil {
					return err
				}
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
		return wait(sent)
	}
	if err := run(time.Now().Add(duration(arguments[3]) / 5)); err != nil { // warms up
		return nil, err
	}
	before, meter := sent, newMeter(arguments[4:]...)
	if err := run(meter.began.Add(duration(arguments[3]))); err != nil {
		return nil, err
	}
	return meter.found(int(sent - before)), nil
}
