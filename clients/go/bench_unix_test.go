//go:build unix

package kps_test

import (
	"syscall"
	"testing"
)

// cpu reports the time that all of this process, the server's side included, has spent on each
// operation: unlike the time that has passed, it does not depend on what else the machine does.
func cpu(b *testing.B) func() {
	begun := spent()
	return func() { b.ReportMetric(float64(spent()-begun)/float64(b.N), "cpu-ns/op") }
}

func spent() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
