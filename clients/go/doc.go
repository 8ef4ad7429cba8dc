// Package kps is the client of KPS, a real-time publish/subscribe bus over WebSockets: publish,
// subscribe, direct messages, requests, and acknowledged publishing, where the publisher learns which
// subscriber handled its message, what it answered, and which one failed and why.
//
//	client, err := kps.Connect(ctx, "localhost:9313", &kps.Options{ID: "alice"})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	_, err = client.Subscribe(ctx, "news", func(m *kps.Message) { fmt.Println(m.From, string(m.Data)) })
//	if err != nil {
//		return err
//	}
//	return client.Publish(ctx, "news", map[string]string{"title": "hello"})
//
// # Connections
//
// A [Client] restores its connection by itself, with its id and its subscriptions; see [Backoff] for
// the waits. [Options] tell what is told about that. What waits for an answer when a connection ends
// ends at once with a *[ConnectionLost], as nobody knows whether it was handled, but for what has a
// [MessageID]. What others publish meanwhile does not come later, except on topics with history, where
// the client resumes and tells [Options.OnRecovered] and [Options.OnLost]. A client does not come back
// when another one has taken its id, when the server's program has dismissed it, or when the server
// refuses it for good: then [Client.Done] is closed.
//
// # Messages and handlers
//
// A payload is any JSON value. It is sent as it was written, and received as a [json.RawMessage], so
// integers keep their digits. [Message.Decode] reads it.
//
// Each subscription handles one message at a time, in the order of each sender, in a goroutine of its
// own; so a slow handler delays no other subscription, and any handler may call the client and wait
// for it. Where handlers are slower than the messages, the client does not read, and the server
// learns of it. Nothing is dropped for that, unless a handler finishes no message at all for
// [Limits.MailboxPatience]. Likewise publishing waits where the network is slower than the program.
//
// A handler that panics does not end the program: the panic is logged, and counts as an error.
//
// # Contexts and errors
//
// The context of a call is for that call: for the wait for the server's answer, or for room. It is
// not for what the call leaves behind, such as a subscription; but the loop over [Client.Messages]
// ends with it. A call that its context ends returns [context.Canceled] or
// [context.DeadlineExceeded].
//
// Every other error is, or wraps, one that this package names: [ErrNotConnected], [ErrClientClosed],
// [ErrRequestTimeout], [ErrNobodyThere] and [ErrQueueFull] for [errors.Is], and *[ServerError],
// *[ConnectionLost], *[ConnectFailed], *[RequestFailed], *[Unsupported], *[InvalidArgument],
// *[MessageTooLarge] and *[HandlerFailed] for [errors.As].
//
// # Servers
//
// The client speaks level 2 of the protocol with KPS, and level 1 with the original implementation:
// there it has no receipts, results, patterns, history, presence, groups and headers, and what asks for
// them is an *[Unsupported].
package kps
