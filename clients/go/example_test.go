package kps_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"kps.internal/kps"
)

func Example() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, nil) // such as "localhost:9313"
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	done := make(chan bool)
	_, err = client.Subscribe(ctx, "news", func(m *kps.Message) {
		var news struct{ Title string }
		if err := m.Decode(&news); err != nil {
			log.Print(err)
		}
		fmt.Println(news.Title)
		done <- true
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Publish(ctx, "news", map[string]string{"title": "hello"}); err != nil {
		log.Fatal(err)
	}
	<-done
	// Output: hello
}

func ExampleClient_Messages() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	go func() {
		for number := 0; ; number++ { // until the loop below is there
			if receivers, err := client.PublishWithReceipt(ctx, "orders", number); err != nil || receivers > 0 {
				return
			}
		}
	}()
	for m, err := range client.Messages(ctx, "orders") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Topic)
		break // unsubscribes
	}
	// Output: orders
}

func ExampleClient_Request() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Handle(ctx, "sum", func(_ context.Context, m *kps.Message) (any, error) {
		var numbers []int
		if err := m.Decode(&numbers); err != nil {
			return nil, err
		}
		sum := 0
		for _, number := range numbers {
			sum += number
		}
		return sum, nil
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	result, err := client.Request(ctx, "sum", []int{1, 2})
	fmt.Println(string(result), err)

	_, err = client.Request(ctx, "nothing", 1)
	fmt.Println(errors.Is(err, kps.ErrNobodyThere))
	// Output:
	// 3 <nil>
	// true
}

func ExampleClient_PublishWithAck() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, &kps.Options{ID: "worker"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Handle(ctx, "jobs", func(context.Context, *kps.Message) (any, error) {
		return nil, errors.New("no broom")
	})
	if err != nil {
		log.Fatal(err)
	}
	ack, err := client.PublishWithAck(ctx, "jobs", "sweep", kps.Timeout(3*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	for response, err := range ack.Responses(ctx) { // as they come
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(response.ID, response.Success, response.Error)
	}
	// Output: worker false no broom
}

func ExampleAsPattern() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	topics := make(chan string)
	_, err = client.Subscribe(ctx, "sensors/*/temperature", func(m *kps.Message) { topics <- m.Topic }, kps.AsPattern)
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Publish(ctx, "sensors/7/temperature", 21.5); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-topics)
	// Output: sensors/7/temperature
}

func ExampleOptions() {
	ctx := context.Background()
	answers := make(chan json.RawMessage)
	bob, err := kps.Connect(ctx, address, &kps.Options{
		ID:           "bob",
		OfflineQueue: 1000, // publications that are kept without a connection
		OnDirect: func(_ context.Context, m *kps.Message) (any, error) {
			answers <- m.Data
			return nil, nil
		},
		OnDisconnect: func(e kps.Disconnected) { log.Print(e.Reason, ", again in ", e.RetryIn) },
		OnError:      func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	if err := bob.PublishToID(ctx, "bob", "to myself"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(<-answers))
	// Output: "to myself"
}

func ExampleServerError() {
	ctx := context.Background()
	client, err := kps.Connect(ctx, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Subscribe(ctx, "news", func(*kps.Message) {})
	var refused *kps.ServerError
	switch {
	case errors.As(err, &refused) && refused.Temporary():
		fmt.Println("try again later")
	case errors.As(err, &refused):
		fmt.Println("refused:", refused.Code)
	case errors.Is(err, kps.ErrNotConnected):
		fmt.Println("not connected")
	case err == nil:
		fmt.Println("subscribed")
	}
	// Output: subscribed
}

func ExampleBytes() {
	photo := struct {
		Name  string    `json:"name"`
		Image kps.Bytes `json:"image"`
	}{"cat.png", kps.Bytes{1, 2, 3}}
	payload, err := json.Marshal(photo)
	fmt.Println(string(payload), err)
	// Output: {"name":"cat.png","image":{"$base64":"AQID"}} <nil>
}
