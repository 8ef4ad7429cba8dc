package main

import (
	"bufio"
	"fmt"
	"io"
	"testing"

	"kps.internal/kps/internal/testbus"
)

// guest is somebody in a chat: what they type and see.
type guest struct {
	types io.WriteCloser
	sees  *bufio.Scanner
	left  chan error
}

func enter(t *testing.T, name, address string) *guest {
	in, types := io.Pipe()
	sees, out := io.Pipe()
	g := &guest{types, bufio.NewScanner(sees), make(chan error, 1)}
	go func() {
		g.left <- chat(t.Context(), name, address, "lobby", in, out)
		out.Close()
	}()
	g.expects(t, "you are "+name+" in lobby")
	return g
}

func (g *guest) expects(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if g.sees.Scan(); g.sees.Text() != line {
			t.Errorf("%q in place of %q", g.sees.Text(), line)
		}
	}
}

func TestChat(t *testing.T) {
	l, err := testbus.New().Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	alice := enter(t, "alice", l.Addr().String())
	fmt.Fprintln(alice.types, "is anybody there?")
	alice.expects(t, "  seen by nobody")
	bob, ann := enter(t, "bob", l.Addr().String()), enter(t, "ann", l.Addr().String())
	fmt.Fprintln(alice.types, `say "hello"`)
	for _, other := range []*guest{bob, ann} {
		other.expects(t, `alice: say "hello"`)
	}
	alice.expects(t, "  seen by ann, bob")
	for _, g := range []*guest{bob, ann, alice} {
		g.types.Close()
		if err := <-g.left; err != nil || g.sees.Scan() {
			t.Error(err, g.sees.Text())
		}
	}
}
