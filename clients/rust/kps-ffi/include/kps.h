/* The C interface of the client of KPS. This file is made by cbindgen from the crate kps-ffi: see
 * its README. kps.hpp is a wrapper for C++.
 *
 * All texts are UTF-8 and end with a NUL. Payloads, results and headers are JSON texts.
 *
 * A function that can fail returns a kps_status. What went wrong is in kps_last_error(), which each
 * thread has for itself. Where a function gives something through a pointer, that is unchanged if
 * it fails. A pointer that may be NULL is said to be so; any other that is NULL is
 * KPS_INVALID_ARGUMENT, or has no effect.
 *
 * A question to the server is given as a kps_pending, so many may be under way. The kps_wait functions
 * wait for its answer, and free it. It is NULL if it could not be sent; what waits for NULL returns the
 * status of the last failure. So a question may be asked, and its answer be waited for, in one line:
 * `kps_wait_json(kps_request(client, "sum", "[1, 2]", NULL), &result)`.
 *
 * What a function gives is to be freed with the function that is named there, once. A text that an
 * accessor returns belongs to the object, and lives as long as it does.
 *
 * A client may be used by any thread. Its callbacks run on one thread of their own, one after the
 * other, and may call everything here. A closure is handed to each call of its callback. When that
 * cannot be called any more, the closure is handed to its kps_drop, once, if there is one. */

#ifndef KPS_H
#define KPS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Whether a function has done what it is for, or how it has failed.
typedef enum kps_status {
  // It has.
  KPS_OK = 0,
  // An argument is not valid. Nothing was sent.
  KPS_INVALID_ARGUMENT = 1,
  // The message is larger than the server takes. Nothing was sent.
  KPS_MESSAGE_TOO_LARGE = 2,
  // There is no connection at the moment.
  KPS_NOT_CONNECTED = 3,
  // The client has ended.
  KPS_CLIENT_CLOSED = 4,
  // No connection could be made.
  KPS_CONNECT_FAILED = 5,
  // The connection ended before the answer.
  KPS_CONNECTION_LOST = 6,
  // The answer did not come in time.
  KPS_REQUEST_TIMEOUT = 7,
  // Something bounded has no room. Nothing was sent.
  KPS_QUEUE_FULL = 8,
  // The server lacks a feature. Nothing was sent.
  KPS_UNSUPPORTED = 9,
  // The server has refused something: see kps_last_error_code().
  KPS_SERVER_ERROR = 10,
  // A request has reached nobody.
  KPS_NOBODY_THERE = 11,
  // All who were asked by a request have failed.
  KPS_REQUEST_FAILED = 12,
  // A mistake of this library.
  KPS_BUG = 13,
} kps_status;

// What has happened to a client.
typedef enum kps_event_kind {
  // It is connected. `text`: its id. `number`: 1 if it was connected before.
  KPS_CONNECTED = 0,
  // An attempt to connect has failed, and another one follows. `text`: why. `error`.
  KPS_CONNECT_ATTEMPT_FAILED = 1,
  // The connection has ended. `text`: why. `number`: the close code.
  KPS_DISCONNECTED = 2,
  // It has come back, and gets what it has missed. `text`: a topic or pattern. `number`: how many
  // messages come.
  KPS_RECOVERED = 3,
  // Messages do not come. `text`: a topic or pattern. `number`: how many, or -1: nobody knows.
  KPS_LOST = 4,
  // Something went wrong for which nobody waits. `text`: what. `error`, `code`.
  KPS_ERROR = 5,
  // It has ended: the last event. `error`: KPS_OK if the program closed it. `text`: why, `code`.
  KPS_CLOSED = 6,
} kps_event_kind;

// A part of what is known of the members of a topic.
typedef enum kps_presence_part {
  // All members.
  KPS_MEMBERS = 0,
  // Those that are new since the last time.
  KPS_JOINED = 1,
  // Those that say something else about themselves.
  KPS_UPDATED = 2,
  // Those that were members the last time.
  KPS_LEFT = 3,
} kps_presence_part;

// The acks of one message.
typedef struct kps_ack kps_ack;

// A client.
typedef struct kps_client kps_client;

// A message.
typedef struct kps_message kps_message;

// A subscription without a callback, from which messages are taken.
typedef struct kps_messages kps_messages;

// The options of a client.
typedef struct kps_options kps_options;

// The outcome for one receiver.
typedef struct kps_outcome kps_outcome;

// Messages of the past.
typedef struct kps_past kps_past;

// A question to the server, which has been sent. Several may be under way at a time.
typedef struct kps_pending kps_pending;

// Who is subscribed to a topic, and what has changed since the last time.
typedef struct kps_presence kps_presence;

// A subscription with a callback.
typedef struct kps_subscription kps_subscription;

// What else a message says that asks for answers. With all members 0: nothing, and 5 seconds.
typedef struct kps_ask {
  // The seconds that receivers have for their answer; 0: 5 of them.
  double timeout;
  // Texts beside the payload: a JSON object, or NULL.
  const char *headers;
  // An id that no other message of this client id has, or NULL. With it the message is handled once,
  // however often it is sent, so the client can send it again after a reconnect.
  const char *message_id;
  // Each group gives messages with the same key to the same member. May be NULL.
  const char *key;
  // How many failures of members of a group are not final.
  uint64_t retry;
  // Ids that must be among the receivers: a JSON array, or NULL.
  const char *expect;
  // Names of groups that must have a member: a JSON array, or NULL.
  const char *expect_groups;
} kps_ask;

// Gives the token for a connection: a text that lives until the next call. NULL: there is none; the
// attempt to connect fails, and another one follows.
typedef const char *(*kps_token_callback)(void *closure);

// Frees a closure. May be NULL.
typedef void (*kps_drop)(void *closure);

// Something has happened. It lives as long as the call of the callback.
typedef struct kps_event {
  enum kps_event_kind kind;
  const char *text;
  int64_t number;
  enum kps_status error;
  // The code with which the server has refused something, or empty.
  const char *code;
} kps_event;

// Takes an event.
typedef void (*kps_event_callback)(void *closure, const struct kps_event *event);

// Is told who is subscribed to a topic, at first and when that changes. What it gets lives as long as
// the call.
typedef void (*kps_presence_callback)(void *closure, const struct kps_presence *presence);

// What a subscription is to have. With all members 0 it is to a topic, and has new messages.
typedef struct kps_subscribe_options {
  // The topic is a pattern: `*` stands for any characters but `/`, `**` for any.
  bool is_pattern;
  // The name of a group to be a member of, or NULL.
  const char *group;
  // How many messages with ack a member of a group takes at a time.
  uint64_t concurrency;
  // Begin with so many of the latest messages, of a topic with history.
  uint64_t last;
  // Begin behind the place with this epoch and offset, or NULL.
  const char *since_epoch;
  uint64_t since_offset;
  // What the client says about itself to those who observe who is subscribed: a JSON object, or NULL.
  const char *info;
  // Is told who is subscribed, unless it is NULL: in between the messages, on the thread of the
  // callbacks or by kps_messages_next. `presence_drop` may be NULL.
  kps_presence_callback on_presence;
  void *presence_closure;
  kps_drop presence_drop;
  // Do not wait for the confirmation of the server: see kps_subscription_confirmed and
  // kps_messages_confirmed.
  bool returns_at_once;
} kps_subscribe_options;

// Takes a message, which is borrowed: it lives as long as the call, and is handled when that
// returns. See kps_message_keep.
typedef void (*kps_callback)(void *closure, const struct kps_message *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Waits for the next outcome. `out` becomes NULL when there are no more. Free it with
// kps_outcome_free.
enum kps_status kps_ack_next(const struct kps_ack *ack, struct kps_outcome **out);

// Asks the server for the ids of those who were asked, and whether each has answered: kps_wait_json,
// an object of booleans.
struct kps_pending *kps_ack_status(const struct kps_ack *ack);

// The version of the members of the topic when the message was published: see kps_presence_version. -1
// if nobody observed them then, or not all outcomes are there.
int64_t kps_ack_presence(const struct kps_ack *ack);

// Ends the request. Who waits gets the outcomes so far.
void kps_ack_cancel(const struct kps_ack *ack);

// Frees an ack. NULL has no effect.
void kps_ack_free(struct kps_ack *ack);

// The id of the client; of a group, that of the member which had the message last.
const char *kps_outcome_client_id(const struct kps_outcome *outcome);

// The id of the client, or "GROUP of TOPIC".
const char *kps_outcome_name(const struct kps_outcome *outcome);

// Whether the receiver has handled the message.
bool kps_outcome_success(const struct kps_outcome *outcome);

// Why it has not, or empty: "disconnected" and "timeout" among others.
const char *kps_outcome_error(const struct kps_outcome *outcome);

// What handling the message resulted in: JSON, or empty.
const char *kps_outcome_result(const struct kps_outcome *outcome);

// If the receiver is a group, its name, else empty.
const char *kps_outcome_group(const struct kps_outcome *outcome);

// Of a group: the topic or pattern of which it is one.
const char *kps_outcome_topic(const struct kps_outcome *outcome);

// Of a group: whether that is a pattern.
bool kps_outcome_is_pattern(const struct kps_outcome *outcome);

// Of a group: how often a member had the message.
uint64_t kps_outcome_attempts(const struct kps_outcome *outcome);

// Of a group: the attempts that were not final, a JSON array of arrays of the member and its error.
const char *kps_outcome_failures(const struct kps_outcome *outcome);

// Frees an outcome. NULL has no effect.
void kps_outcome_free(struct kps_outcome *outcome);

// Closes a client for good. What was accepted before is written, for up to so many seconds, or 5 below
// 0. May be called twice; a callback does not wait here.
enum kps_status kps_client_close(const struct kps_client *client,
                                 double seconds);

// Closes and frees a client. When this returns, no callback runs any more, and each closure was handed
// to its kps_drop; but a callback must not call this. NULL has no effect.
void kps_client_free(struct kps_client *client);

// The id by which others reach the client. Free it with kps_string_free.
char *kps_client_id(const struct kps_client *client);

// Whether the client is connected now.
bool kps_client_is_connected(const struct kps_client *client);

// Publishes to all subscribers of a topic. `message_headers` is a JSON object of texts, or NULL.
enum kps_status kps_publish(const struct kps_client *client,
                            const char *topic,
                            const char *json,
                            const char *message_headers);

// Sends a direct message. If nobody has the id, a KPS_ERROR tells so. The headers may be NULL.
enum kps_status kps_publish_to_id(const struct kps_client *client,
                                  const char *id,
                                  const char *json,
                                  const char *message_headers);

// Has the server send a message to another server: "host:port", maybe with a path, and maybe with "::"
// and the address of a server behind that one. If the payload is an object with a member "topic", that
// server publishes its member "data" there. If it fails, a KPS_ERROR tells so.
enum kps_status kps_publish_to_server(const struct kps_client *client,
                                      const char *address,
                                      const char *json,
                                      bool is_secure);

// Publishes, and asks to how many subscribers the server has passed the message on: kps_wait_number,
// -1 if it does not say. `ask` may be NULL; of it the headers and the message id count.
struct kps_pending *kps_publish_with_receipt(const struct kps_client *client,
                                             const char *topic,
                                             const char *json,
                                             const struct kps_ask *ask);

// Asks the subscribers of a topic for one result, the first: kps_wait_json. `ask` may be NULL.
struct kps_pending *kps_request(const struct kps_client *client,
                                const char *topic,
                                const char *json,
                                const struct kps_ask *ask);

// Asks the client, or server, of an id. Otherwise like kps_request.
struct kps_pending *kps_request_to_id(const struct kps_client *client,
                                      const char *id,
                                      const char *json,
                                      const struct kps_ask *ask);

// Publishes, and gathers what becomes of the message at each subscriber: see kps_ack_next. `ask` may
// be NULL. Free the ack with kps_ack_free.
enum kps_status kps_publish_with_ack(const struct kps_client *client,
                                     const char *topic,
                                     const char *json,
                                     const struct kps_ask *ask,
                                     struct kps_ack **out);

// The same for one client. There is no outcome if nobody has the id.
enum kps_status kps_publish_to_id_with_ack(const struct kps_client *client,
                                           const char *id,
                                           const char *json,
                                           const struct kps_ask *ask,
                                           struct kps_ack **out);

// Asks for up to `limit` messages of a topic with history: the first ones behind a place, or else the
// latest: kps_wait_past. `since_epoch` may be NULL.
struct kps_pending *kps_history(const struct kps_client *client,
                                const char *topic,
                                const char *since_epoch,
                                uint64_t since_offset,
                                uint64_t limit);

// Asks who is subscribed to a topic: kps_wait_presence.
struct kps_pending *kps_presence_of(const struct kps_client *client, const char *topic);

// Asks whether the server has handled all that was sent before: kps_wait.
struct kps_pending *kps_flush(const struct kps_client *client);

// The topic; empty for a direct message.
const char *kps_message_topic(const struct kps_message *message);

// The payload: JSON.
const char *kps_message_data(const struct kps_message *message);

// The id of the publisher.
const char *kps_message_from(const struct kps_message *message);

// The texts beside the payload: a JSON object, or empty.
const char *kps_message_headers(const struct kps_message *message);

// The epoch of its place in the history of its topic; empty: it has none.
const char *kps_message_epoch(const struct kps_message *message);

// The offset of its place in the history of its topic; 0: it has none.
uint64_t kps_message_offset(const struct kps_message *message);

// How many members of a group have been asked to handle it, with this one.
uint64_t kps_message_attempt(const struct kps_message *message);

// Whether the publisher wants an ack.
bool kps_message_wants_ack(const struct kps_message *message);

// Answers the publisher with a result. Without effect if it wants no ack, or has one.
enum kps_status kps_message_reply(const struct kps_message *message, const char *json);

// Tells the publisher that the message could not be handled.
enum kps_status kps_message_fail(const struct kps_message *message, const char *reason);

// Keeps a message beyond the call of a callback: it is handled when this one is freed, with
// kps_message_free.
struct kps_message *kps_message_keep(const struct kps_message *message);

// Frees a message that was kept or taken. Then it is handled. NULL has no effect.
void kps_message_free(struct kps_message *message);

// How many messages of the past there are.
size_t kps_past_count(const struct kps_past *past);

// One of them, the oldest first; NULL if there is none with this number, from 0.
const struct kps_message *kps_past_message(const struct kps_past *past, size_t number);

// Whether nothing is missing between the place that was given and the messages.
bool kps_past_is_complete(const struct kps_past *past);

// If something is, how many messages; -1: nobody knows.
int64_t kps_past_lost(const struct kps_past *past);

// Frees messages of the past. NULL has no effect.
void kps_past_free(struct kps_past *past);

// Makes the options for a server: "host", "host:port", or a URL with ws:// or wss://. Free them with
// kps_options_free, unless kps_connect or kps_start has taken them. NULL if the address is no text.
struct kps_options *kps_options_new(const char *address);

// Frees options. NULL has no effect.
void kps_options_free(struct kps_options *options);

// Sets the id by which others reach the client. Without one it is random.
enum kps_status kps_options_set_id(struct kps_options *options, const char *id);

// Sets the token that identifies the client.
enum kps_status kps_options_set_token(struct kps_options *options, const char *token);

// Sets a callback that gives a token for each connection, on a thread of the client, which waits for
// it. `drop` may be NULL.
enum kps_status kps_options_set_token_with(struct kps_options *options,
                                           kps_token_callback callback,
                                           void *closure,
                                           kps_drop drop);

// Sets the highest level of the protocol to offer: 2, or 1 like the original clients.
enum kps_status kps_options_set_level(struct kps_options *options, uint8_t level);

// Adds a field to the opening request.
enum kps_status kps_options_add_header(struct kps_options *options,
                                       const char *name,
                                       const char *value);

// Sets a fixed wait in seconds before the client connects again; below 0: it does not connect again.
// Without it the waits grow from a quarter of a second to half a minute, a part of them at random.
enum kps_status kps_options_set_reconnect(struct kps_options *options,
                                          double seconds);

// Sets how many publications are kept while there is no connection; 0 by default.
enum kps_status kps_options_set_offline(struct kps_options *options, size_t most);

// Sets the seconds for the server to answer; 10 by default.
enum kps_status kps_options_set_request_timeout(struct kps_options *options, double seconds);

// Sets the authorities to trust in place of the system's: the text of their certificates (PEM).
// KPS_UNSUPPORTED if this library was built without TLS.
enum kps_status kps_options_set_trust(struct kps_options *options, const char *certificates);

// Sets a callback that is told what happens besides messages. `drop` may be NULL.
enum kps_status kps_options_set_on_event(struct kps_options *options,
                                         kps_event_callback callback,
                                         void *closure,
                                         kps_drop drop);

// Connects, and waits until that is done. Takes the options, also if it fails. Free the client with
// kps_client_free.
enum kps_status kps_connect(struct kps_options *options, struct kps_client **out);

// Makes a client that connects, and does not wait. Otherwise like kps_connect.
enum kps_status kps_start(struct kps_options *options, struct kps_client **out);

// Waits for the answer to any question, and frees both.
enum kps_status kps_wait(struct kps_pending *pending);

// Waits for an answer that is a number, and frees the question.
enum kps_status kps_wait_number(struct kps_pending *pending, int64_t *out);

// Waits for an answer that is JSON, and frees the question. Free the text with kps_string_free.
enum kps_status kps_wait_json(struct kps_pending *pending, char **out);

// Waits for messages of the past, and frees the question. Free them with kps_past_free.
enum kps_status kps_wait_past(struct kps_pending *pending, struct kps_past **out);

// Waits for the members of a topic, and frees the question. Free them with kps_presence_free.
enum kps_status kps_wait_presence(struct kps_pending *pending, struct kps_presence **out);

// Frees a question whose answer is not wanted any more. NULL has no effect.
void kps_pending_free(struct kps_pending *pending);

// The topic.
const char *kps_presence_topic(const struct kps_presence *presence);

// The number of the members.
uint64_t kps_presence_count(const struct kps_presence *presence);

// The number of the latest change, which grows; -1 if nobody observes the topic.
int64_t kps_presence_version(const struct kps_presence *presence);

// Whether the members are known. Where there are very many, only their number is.
bool kps_presence_is_listed(const struct kps_presence *presence);

// How many a kps_presence_part has.
size_t kps_presence_size(const struct kps_presence *presence, uint32_t part);

// The id of one of them; NULL if there is none with this number, from 0.
const char *kps_presence_id(const struct kps_presence *presence, uint32_t part, size_t number);

// What it says about itself: a JSON object, or empty. Of KPS_LEFT: why it has left, such as
// "unsubscribed", "closed", "lost" or "unknown".
const char *kps_presence_info(const struct kps_presence *presence, uint32_t part, size_t number);

// Frees a presence that a question has given. NULL has no effect.
void kps_presence_free(struct kps_presence *presence);

// The text of the last failure in this thread; empty if there was none. It lives until the next one.
const char *kps_last_error(void);

// The code with which the server has refused something, if that was the last failure in this thread;
// else empty. Programs rely on these codes: "forbidden", "rate_limited" and so on.
const char *kps_last_error_code(void);

// The errors of all who were asked, if the last failure in this thread was KPS_REQUEST_FAILED: a JSON
// object, by client id or "GROUP of TOPIC"; else empty.
const char *kps_last_errors(void);

// The name of a kps_status, which is the same in every language: "request_timeout" for instance. NULL
// if there is no such status.
const char *kps_status_name(int32_t status);

// Subscribes to a topic. Returns when the server has confirmed it; without a connection at once.
//
// `options`, `drop` and `out` may be NULL. Free the subscription with kps_subscription_free, which does
// not end it: kps_unsubscribe does, and the end of the client.
enum kps_status kps_subscribe(const struct kps_client *client,
                              const char *topic,
                              const struct kps_subscribe_options *options,
                              kps_callback callback,
                              void *closure,
                              kps_drop drop,
                              struct kps_subscription **out);

// Takes the messages that are sent to the id of this client. Otherwise like kps_subscribe.
enum kps_status kps_on_direct(const struct kps_client *client,
                              kps_callback callback,
                              void *closure,
                              kps_drop drop,
                              struct kps_subscription **out);

// Waits until the server has confirmed a subscription. Fails if the server refuses it, or does not
// answer in time; then it has ended.
enum kps_status kps_subscription_confirmed(const struct kps_subscription *subscription);

// Ends a subscription. No callback begins after that; one that runs comes to its end.
void kps_unsubscribe(const struct kps_subscription *subscription);

// Frees a subscription, which goes on. NULL has no effect.
void kps_subscription_free(struct kps_subscription *subscription);

// Subscribes without a callback. `options` may be NULL. Free it with kps_messages_free, which ends
// it.
enum kps_status kps_subscribe_messages(const struct kps_client *client,
                                       const char *topic,
                                       const struct kps_subscribe_options *options,
                                       struct kps_messages **out);

// Waits for the next message, for so many seconds, or below 0 for as long as it takes:
// KPS_REQUEST_TIMEOUT if none comes. `out` becomes NULL if the client was closed. Free the message with
// kps_message_free; then it is handled. Several threads may wait.
enum kps_status kps_messages_next(const struct kps_messages *messages,
                                  double seconds,
                                  struct kps_message **out);

// The same as kps_subscription_confirmed without a callback.
enum kps_status kps_messages_confirmed(const struct kps_messages *messages);

// Ends a subscription without a callback, and lets those go who wait for its messages.
void kps_messages_unsubscribe(const struct kps_messages *messages);

// Ends and frees a subscription without a callback. NULL has no effect.
void kps_messages_free(struct kps_messages *messages);

// Makes a payload of a text: JSON. Free it with kps_string_free. NULL if the text is none.
char *kps_text_to_json(const char *text);

// Reads the text that a payload is. Free it with kps_string_free. NULL if the payload is something
// else.
char *kps_json_to_text(const char *json);

// Frees a text that a function gave.
void kps_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KPS_H */
