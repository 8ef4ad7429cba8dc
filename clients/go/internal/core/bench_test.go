package core

import (
	"fmt"
	"strings"
	"testing"

	"kps.internal/kps/internal/ws"
)

// BenchmarkReceive reads messages of 100 bytes, so many in a frame, and takes them.
func BenchmarkReceive(b *testing.B) {
	payload := `"` + strings.Repeat("x", 98) + `"`
	for _, batch := range []int{1, 10, 500} {
		b.Run(fmt.Sprint(batch, " in a frame"), func(b *testing.B) {
			text := `{"action":"publish","topic":"a","from":"bob","batch":[` + strings.Repeat(payload+",", batch-1) + payload + `]}`
			if batch == 1 {
				text = `{"action":"publish","topic":"a","from":"bob","data":` + payload + `}`
			}
			w := connected(&testing.T{}, fullPong, nil)
			sub := w.live("a")
			var frame []byte
			w.link.handle(ws.Text, []byte(text))
			var taken []Message
			b.ReportAllocs()
			b.SetBytes(100)
			frame = appendServerFrame(frame, text)
			for i := 0; i < b.N; i += batch {
				w.link.Receive(frame, 0)
				for taken = taken[:0]; sub.Waiting() > 0; {
					taken = w.s.Take(taken, sub, 1000)
				}
			}
		})
	}
}

func appendServerFrame(dst []byte, text string) []byte {
	size := len(text)
	switch {
	case size <= 125:
		dst = append(dst, 0x81, byte(size))
	case size <= 0xFFFF:
		dst = append(dst, 0x81, 126, byte(size>>8), byte(size))
	default:
		dst = append(dst, 0x81, 127, 0, 0, 0, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	}
	return append(dst, text...)
}

// BenchmarkPublish queues publications of 100 bytes, and takes the frames.
func BenchmarkPublish(b *testing.B) {
	payload := []byte(`"` + strings.Repeat("x", 98) + `"`)
	w := connected(&testing.T{}, fullPong, nil)
	var out []byte
	b.ReportAllocs()
	b.SetBytes(100)
	for i := range b.N {
		if err := w.s.Publish("news", payload); err != nil {
			b.Fatal(err)
		}
		if i%500 == 0 {
			out = w.link.Output(out[:0], 1<<20)
		}
	}
}
