// Command testee plays the program of client vectors on top of the Go client. A judge starts it, and
// tells it the steps on its standard input (spec/CLIENTS.md).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

var needs = []string{
	"level_1", "patterns", "history", "presence", "groups", "headers", "message_ids", "tokens",
	"request_tokens", "offline",
}

// line is a line of the judge.
type line struct {
	Vector  string           `json:"vector"`
	URL     string           `json:"url"`
	Options *options         `json:"options"`
	Do      string           `json:"do"`
	Sync    *json.RawMessage `json:"sync"`
	End     bool             `json:"end"`
	step
}

// fields are those of a line for the judge.
type fields map[string]any

// judge writes lines, from any goroutine.
type judge struct {
	mu  sync.Mutex
	out io.Writer
}

func (j *judge) write(line any) {
	written, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.out, "%s\n", written)
}

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	j := &judge{out: out}
	j.write(fields{"testee": "go", "needs": needs})
	lines := bufio.NewReader(in)
	var p *program
	for {
		text, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
		switch {
		case l.Vector != "":
			p = newProgram(j, l.URL, l.Options)
		case l.End:
			p.end()
			j.write(fields{"ended": true})
		case l.Sync != nil:
			settled()
			j.write(fields{"synced": l.Sync})
		default:
			p.begin(l.Do, &l.step)
		}
	}
}
