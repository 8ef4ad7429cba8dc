package main

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// echo LIBRARY ADDRESS SECONDS publishes one message, waits until it comes back, and so on; then it
// publishes one, waits until the server has handled it, and so on.
func echo(arguments []string) (found, error) {
	c, err := connect(arguments[0], arguments[1])
	if err != nil {
		return nil, err
	}
	arrived := make(chan bool, 1)
	if err := c.subscribe(topic, func() { arrived <- true }); err != nil {
		return nil, err
	}
	round, err := sequence(arguments[2], func() error {
		if err := c.publish(topic); err != nil {
			return err
		}
		<-arrived
		return nil
	})
	if err != nil {
		return nil, err
	}
	confirmed, err := sequence(arguments[2], func() error { return c.confirm("nobody") })
	return found{"round": percentiles(round), "confirmed": percentiles(confirmed)}, err
}

// answer LIBRARY ADDRESS handles what is asked, until it is ended.
func answer(arguments []string) (found, error) {
	c, err := connect(arguments[0], arguments[1])
	if err == nil {
		err = c.answer(topic)
	}
	if err == nil {
		serve(found{"ready": true})
	}
	return nil, err
}

// ask LIBRARY ADDRESS SECONDS MANY PID… asks one after the other, and then with many requests under
// way. The processes are the server and who answers.
func ask(arguments []string) (found, error) {
	c, err := connect(arguments[0], arguments[1])
	if err != nil {
		return nil, err
	}
	once := func() error { return c.ask(topic) }
	many, err := strconv.Atoi(arguments[3])
	if err != nil {
		return nil, err
	}
	result := found{}
	for _, run := range []struct {
		name  string
		count int
	}{{"sequential", 1}, {"parallel", many}} {
		if _, err := sequence("0.1", once); err != nil { // warms up
			return nil, err
		}
		meter := newMeter(arguments[4:]...)
		times := make([][]time.Duration, run.count)
		failures := make([]error, run.count)
		var all sync.WaitGroup
		for i := range run.count {
			all.Go(func() { times[i], failures[i] = sequence(arguments[2], once) })
		}
		all.Wait()
		for _, err := range failures {
			if err != nil {
				return nil, err
			}
		}
		taken := slices.Concat(times...)
		one := meter.found(len(taken))
		one["p50"] = percentiles(taken)["p50"]
		result[run.name] = one
	}
	return result, nil
}

// sequence does something again and again for some seconds, and returns how long each took.
func sequence(seconds string, once func() error) ([]time.Duration, error) {
	var times []time.Duration
	for end := time.Now().Add(duration(seconds)); ; {
		began := time.Now()
		if began.After(end) && len(times) > 0 {
			return times, nil
		}
		if err := once(); err != nil {
			return nil, fmt.Errorf("the call %d failed: %w", len(times)+1, err)
		}
		times = append(times, time.Since(began))
	}
}

// percentiles are in seconds.
func percentiles(times []time.Duration) found {
	slices.Sort(times)
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1))].Seconds() }
	return found{"p50": at(0.5), "p99": at(0.99)}
}
