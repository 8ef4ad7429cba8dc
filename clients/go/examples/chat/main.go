// Chat is a chat room in the terminal, in which the writer sees who has got each line.
//
//	kps serve
//	go run ./examples/chat alice             # in one terminal
//	go run ./examples/chat bob               # in another; then type lines
//
// Arguments: your name, then optionally the server's address and the room.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"kps.internal/kps"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 4 {
		log.Fatal("usage: chat NAME [ADDRESS] [ROOM]")
	}
	given := append(os.Args[1:], []string{"", "localhost:9313", "lobby"}[len(os.Args)-1:]...)
	if err := chat(context.Background(), given[0], given[1], given[2], os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func chat(ctx context.Context, name, address, room string, in io.Reader, out io.Writer) error {
	client, err := kps.Connect(ctx, address, &kps.Options{ID: name})
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Subscribe(ctx, room, func(m *kps.Message) {
		text := string(m.Data)
		_ = m.Decode(&text) // what is no text is shown as JSON
		if m.From != name {
			fmt.Fprintf(out, "%s: %s\n", m.From, text)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "you are %s in %s\n", name, room)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		ack, err := client.PublishWithAck(ctx, room, lines.Text(), kps.Timeout(5*time.Second))
		if err != nil {
			return err
		}
		responses, err := ack.Wait(ctx)
		if err != nil {
			return err
		}
		var seen []string
		for who, r := range responses {
			if r.Success && who != name {
				seen = append(seen, who)
			}
		}
		if seen == nil {
			seen = []string{"nobody"}
		}
		slices.Sort(seen)
		fmt.Fprintf(out, "  seen by %s\n", strings.Join(seen, ", "))
	}
	return lines.Err()
}
