/* What a client in C does: subscribe, publish, ask, and see what fails. Takes the address of a server. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kps.h"

/* Ends the program if something that must not fail has failed. */
static void must(kps_status status, const char *what) {
    if (status == KPS_OK) return;
    fprintf(stderr, "%s: %s (%d, %s)\n", what, kps_last_error(), status, kps_last_error_code());
    exit(1);
}

static void expect(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "wrong: %s\n", what);
    exit(1);
}

static void on_event(void *closure, const kps_event *event) {
    if (event->kind == KPS_CONNECTED) *(int *)closure += 1;
    if (event->kind == KPS_CLOSED) *(int *)closure += 10;
}

/* Answers a question with the length of its payload. */
static void count(void *closure, const kps_message *message) {
    char answer[32];
    snprintf(answer, sizeof answer, "%zu", strlen(kps_message_data(message)));
    must(kps_message_reply(message, answer), "reply");
    *(int *)closure += 1;
}

/* Keeps a message for later. */
static void keep(void *closure, const kps_message *message) {
    *(kps_message **)closure = kps_message_keep(message);
}

static void refuse(void *closure, const kps_message *message) {
    (void)closure;
    must(kps_message_fail(message, "not today"), "fail");
}

static void dropped(void *closure) { *(int *)closure += 100; }

static void publish_and_subscribe(kps_client *alice, kps_client *bob) {
    kps_messages *messages = NULL;
    const kps_subscribe_options pattern = {.is_pattern = true};
    must(kps_subscribe_messages(bob, "news/*", &pattern, &messages), "subscribe");
    must(kps_publish(alice, "news/local", "{\"title\": \"hello\"}", "{\"kind\":\"t\"}"), "publish");
    kps_message *message = NULL;
    must(kps_messages_next(messages, 20, &message), "next");
    expect(strcmp(kps_message_topic(message), "news/local") == 0, "topic");
    expect(strcmp(kps_message_data(message), "{\"title\": \"hello\"}") == 0, "data");
    expect(strcmp(kps_message_from(message), "alice") == 0, "from");
    expect(strcmp(kps_message_headers(message), "{\"kind\":\"t\"}") == 0, "headers");
    expect(!kps_message_wants_ack(message) && kps_message_offset(message) == 0, "plain");
    kps_message_free(message);
    expect(kps_messages_next(messages, 0, &message) == KPS_REQUEST_TIMEOUT, "nothing more");
    int64_t delivered = -1;
    must(kps_wait_number(kps_publish_with_receipt(alice, "news/local", "1", NULL), &delivered), "receipt");
    expect(delivered == 1, "one subscriber");
    kps_messages_free(messages);
}

static void ask(kps_client *alice, kps_client *bob) {
    int calls = 0;
    kps_subscription *subscription = NULL;
    must(kps_subscribe(bob, "count", NULL, count, &calls, dropped, &subscription), "subscribe");
    char *result = NULL;
    const kps_ask soon = {.timeout = 20};
    kps_pending *first = kps_request(alice, "count", "[1, 2, 3]", &soon);
    kps_pending *second = kps_request(alice, "count", "[]", &soon);
    must(kps_wait_json(first, &result), "request");
    expect(strcmp(result, "9") == 0, "result");
    kps_string_free(result);
    must(kps_wait(second), "another request");

    must(kps_subscribe(alice, "count", NULL, refuse, NULL, NULL, NULL), "subscribe");
    kps_ack *ack = NULL;
    must(kps_publish_with_ack(alice, "count", "{}", &soon, &ack), "ack");
    int handled = 0, failed = 0;
    for (kps_outcome *outcome = NULL;; kps_outcome_free(outcome)) {
        must(kps_ack_next(ack, &outcome), "outcome");
        if (outcome == NULL) break;
        if (kps_outcome_success(outcome)) {
            expect(strcmp(kps_outcome_client_id(outcome), "bob") == 0, "who");
            expect(strcmp(kps_outcome_result(outcome), "2") == 0, "its result");
            handled++;
        } else {
            expect(strcmp(kps_outcome_name(outcome), "alice") == 0, "who");
            expect(strcmp(kps_outcome_error(outcome), "not today") == 0, "its error");
            failed++;
        }
    }
    expect(handled == 1 && failed == 1, "two outcomes");
    kps_ack_free(ack);

    kps_unsubscribe(subscription);
    kps_subscription_free(subscription);
    must(kps_wait(kps_flush(bob)), "flush");
    expect(calls == 3 || calls == 103, "three calls");

    kps_message *kept = NULL;
    must(kps_on_direct(bob, keep, &kept, NULL, NULL), "direct");
    must(kps_publish_to_id_with_ack(alice, "bob", "1", &soon, &ack), "ack");
    while (kept == NULL) must(kps_wait(kps_flush(bob)), "flush"); /* until the callback has run */
    char *status = NULL;
    must(kps_wait_json(kps_ack_status(ack), &status), "status");
    expect(strcmp(status, "{\"bob\":false}") == 0, "not handled yet");
    kps_string_free(status);
    kps_message_free(kept);
    kps_outcome *outcome = NULL;
    must(kps_ack_next(ack, &outcome), "outcome");
    expect(kps_outcome_success(outcome), "handled");
    kps_outcome_free(outcome);
    kps_ack_cancel(ack);
    kps_ack_free(ack);
}

static void past(kps_client *alice) {
    must(kps_publish(alice, "kept/c", "1", NULL), "publish");
    must(kps_publish(alice, "kept/c", "2", NULL), "publish");
    kps_past *past = NULL;
    must(kps_wait_past(kps_history(alice, "kept/c", NULL, 0, 10), &past), "history");
    const size_t count = kps_past_count(past);
    expect(count >= 2 && kps_past_is_complete(past), "how many");
    const kps_message *last = kps_past_message(past, count - 1);
    expect(strcmp(kps_message_data(last), "2") == 0, "the last one");
    expect(kps_message_offset(last) > 0 && *kps_message_epoch(last) != 0, "its place");
    expect(kps_past_message(past, count) == NULL, "no more");
    kps_past_free(past);
}

static void on_presence(void *closure, const kps_presence *presence) {
    *(uint64_t *)closure = kps_presence_count(presence);
}

static void presence(kps_client *alice, kps_client *bob) {
    uint64_t told = 0;
    kps_messages *messages = NULL;
    kps_message *message = NULL;
    const kps_subscribe_options options = {
        .info = "{\"name\": \"A\"}", .on_presence = on_presence, .presence_closure = &told};
    must(kps_subscribe_messages(alice, "room", &options, &messages), "subscribe");
    must(kps_subscribe(bob, "room", NULL, count, &(int){0}, NULL, NULL), "subscribe");
    must(kps_publish(bob, "room", "1", NULL), "publish");
    must(kps_messages_next(messages, 20, &message), "next");
    kps_message_free(message);
    expect(told >= 1, "told in between");
    kps_presence *now = NULL;
    must(kps_wait_presence(kps_presence_of(bob, "room"), &now), "presence");
    expect(kps_presence_count(now) == 2 && kps_presence_is_listed(now), "two members");
    expect(kps_presence_size(now, KPS_MEMBERS) == 2 && kps_presence_size(now, KPS_LEFT) == 0, "listed");
    expect(strcmp(kps_presence_id(now, KPS_MEMBERS, 0), "alice") == 0, "the first one");
    expect(strcmp(kps_presence_info(now, KPS_MEMBERS, 0), "{\"name\": \"A\"}") == 0, "what she says");
    expect(*kps_presence_info(now, KPS_MEMBERS, 1) == 0 && kps_presence_id(now, 9, 0) == NULL, "nothing");
    kps_presence_free(now);
    kps_messages_free(messages);
}

static void texts(void) {
    char *json = kps_text_to_json("\"\xc3\xa9\"\n"), *text = kps_json_to_text("\"\\u00e9\\ud83d\\ude00\"");
    expect(strcmp(json, "\"\\\"\xc3\xa9\\\"\\n\"") == 0, "JSON of a text");
    expect(strcmp(text, "\xc3\xa9\xf0\x9f\x98\x80") == 0, "a text of JSON");
    kps_string_free(json);
    kps_string_free(text);
    expect(kps_json_to_text("1") == NULL && kps_text_to_json("\xff") == NULL, "no texts");
    expect(strcmp(kps_status_name(KPS_NOT_CONNECTED), "not_connected") == 0, "a name");
}

static void mistakes(kps_client *alice) {
    char *result = NULL;
    expect(kps_publish(alice, "a", "{", NULL) == KPS_INVALID_ARGUMENT, "not JSON");
    expect(kps_publish(alice, "\xff", "1", NULL) == KPS_INVALID_ARGUMENT, "not UTF-8");
    expect(kps_publish(NULL, "a", "1", NULL) == KPS_INVALID_ARGUMENT, "no client");
    expect(strcmp(kps_last_error(), "a client is NULL") == 0, "its text");
    expect(kps_publish(alice, "a", "1", "[]") == KPS_INVALID_ARGUMENT, "no headers");
    expect(kps_wait_json(kps_request(alice, "nobody", "1", NULL), &result) == KPS_NOBODY_THERE, "nobody");
    expect(kps_wait_json(kps_flush(alice), &result) == KPS_INVALID_ARGUMENT, "another answer");
    expect(kps_wait_json(kps_flush(alice), NULL) == KPS_INVALID_ARGUMENT, "nowhere");
    expect(kps_request(alice, "", "1", NULL) == NULL, "no topic");
    expect(kps_wait_json(NULL, &result) == KPS_INVALID_ARGUMENT, "which is told again");
    expect(kps_subscribe(alice, "a", NULL, NULL, NULL, NULL, NULL) == KPS_INVALID_ARGUMENT, "no callback");
    kps_past *none = NULL;
    expect(kps_wait_past(kps_history(alice, "other", NULL, 0, 1), &none) == KPS_SERVER_ERROR, "no history");
    expect(strcmp(kps_last_error_code(), "no_history") == 0, "its code");
    kps_message_free(NULL);
    expect(kps_message_data(NULL) == NULL && result == NULL && none == NULL, "nothing");
}

int main(int argc, char **argv) {
    expect(argc == 2, "usage: example ADDRESS");
    int events = 0;
    kps_options *options = kps_options_new(argv[1]);
    must(kps_options_set_id(options, "alice"), "id");
    must(kps_options_set_on_event(options, on_event, &events, dropped), "on_event");
    kps_client *alice = NULL, *bob = NULL, *nobody = NULL;
    must(kps_connect(options, &alice), "connect");
    options = kps_options_new(argv[1]);
    must(kps_options_set_id(options, "bob"), "id");
    must(kps_options_set_request_timeout(options, 30), "timeout");
    must(kps_connect(options, &bob), "connect");
    char *id = kps_client_id(bob);
    expect(strcmp(id, "bob") == 0 && kps_client_is_connected(bob), "connected");
    kps_string_free(id);

    publish_and_subscribe(alice, bob);
    ask(alice, bob);
    past(alice);
    presence(alice, bob);
    texts();
    mistakes(alice);

    options = kps_options_new("127.0.0.1:1");
    must(kps_options_set_reconnect(options, -1), "reconnect");
    expect(kps_connect(options, &nobody) == KPS_CONNECT_FAILED && nobody == NULL, "no server");

    must(kps_client_close(alice, -1), "close");
    expect(kps_publish(alice, "a", "1", NULL) == KPS_CLIENT_CLOSED, "closed");
    kps_client_free(bob);
    kps_client_free(alice);
    expect(events == 111, "connected, closed, dropped");
    puts("C: all is well");
    return 0;
}
