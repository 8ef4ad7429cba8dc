package main

import (
	"log"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// meter measures this process, and the processor time of some others.
type meter struct {
	pids   []int
	began  time.Time
	spent  []float64
	memory runtime.MemStats
}

func newMeter(others ...string) *meter {
	m := &meter{pids: []int{os.Getpid()}}
	for _, other := range others {
		pid, err := strconv.Atoi(other)
		if err != nil {
			log.Fatal(err)
		}
		m.pids = append(m.pids, pid)
	}
	runtime.ReadMemStats(&m.memory)
	m.spent = m.processors()
	m.began = time.Now()
	return m
}

// found returns the rate of so many things, and what each has cost: processor time of each process,
// and allocations of this one.
func (m *meter) found(count int) found {
	took, spent := time.Since(m.began), m.processors()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	each := float64(count)
	for i := range spent {
		spent[i] = (spent[i] - m.spent[i]) / each
	}
	return found{
		"rate":        each / took.Seconds(),
		"cpu":         spent,
		"allocations": float64(memory.Mallocs-m.memory.Mallocs) / each,
		"bytes":       float64(memory.TotalAlloc-m.memory.TotalAlloc) / each,
	}
}

// processors returns the seconds of processor time of each process, all its threads together.
func (m *meter) processors() []float64 {
	var all []float64
	for _, pid := range m.pids {
		// The number of its clock on Linux, as clock_getcpuclockid(3) gives it.
		clock := ^pid<<3 | 2
		var spent syscall.Timespec
		_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&spent)), 0)
		if failed != 0 {
			log.Fatal(failed)
		}
		all = append(all, float64(spent.Nano())/1e9)
	}
	return all
}
