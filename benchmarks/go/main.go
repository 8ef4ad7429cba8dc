// The processes with Go clients in them, for benchmarks/scenarios/golang.py: publishers,
// subscribers, askers, and the trivial servers beside which a client is measured alone.
//
// Each has a role and its arguments, and tells what it found as lines of JSON. It ends by itself, or
// is ended by who started it.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// life is after how long a process ends in any case.
const life = 300 * time.Second

type found map[string]any

var roles = map[string]func(arguments []string) (found, error){
	"versions":  versions,
	"subscribe": subscribe,
	"publish":   publish,
	"echo":      echo,
	"answer":    answer,
	"ask":       ask,
	"peer":      peer,
	"send":      send,
	"receive":   receive,
}

func main() {
	log.SetFlags(0)
	role := roles[os.Args[1]]
	if role == nil {
		log.Fatalf("there is no role %q", os.Args[1])
	}
	time.AfterFunc(life, func() { log.Fatal("it takes too long") })
	result, err := role(os.Args[2:])
	if err != nil {
		log.Fatal(err)
	}
	tell(result)
}

func tell(result found) {
	text, err := json.Marshal(result)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}

// serve tells that a role is ready, and goes on until it is ended.
func serve(result found) {
	tell(result)
	select {}
}

func versions([]string) (found, error) {
	result := found{"go": runtime.Version()[len("go"):]}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/nats-io/nats.go" {
				result["nats.go"] = dep.Version[len("v"):]
			}
		}
	}
	return result, nil
}

// duration reads a number of seconds.
func duration(text string) time.Duration {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		log.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}
