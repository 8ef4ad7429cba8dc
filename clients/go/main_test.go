package kps_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"kps.internal/kps/internal/testbus"
)

// address is where a bus listens: one in this process, for examples and tests.
var address string

func TestMain(m *testing.M) {
	l, err := testbus.New().Listen()
	if err != nil {
		panic(err)
	}
	address = l.Addr().String()
	code := m.Run()
	l.Close()
	if left := leftBehind(); code == 0 && left != "" {
		fmt.Println("goroutines are left behind:\n" + left)
		code = 1
	}
	os.Exit(code)
}

// leftBehind returns the goroutines of clients that go on, after a moment for their end.
func leftBehind() string {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []string
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(stack, "kps.(*") && !strings.Contains(stack, "testing.(*M)") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}
