/* A chat room in the terminal, in which the writer sees who has got each line.
 *
 *     kps serve
 *     chat_c alice            # in one terminal
 *     chat_c bob              # in another; then type lines
 *
 * Arguments: your name, then optionally the server's address and the room. */

#define _POSIX_C_SOURCE 200809L /* getline, strdup */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kps.h"

static void must(kps_status status) {
    if (status == KPS_OK) return;
    fprintf(stderr, "%s\n", kps_last_error());
    exit(1);
}

static void show(void *name, const kps_message *message) {
    if (strcmp(kps_message_from(message), name) == 0) return;
    const char *data = kps_message_data(message);
    char *text = kps_json_to_text(data);
    printf("%s: %s\n", kps_message_from(message), text ? text : data);
    kps_string_free(text);
}

static int compare(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* Publishes a line, and tells who has got it. */
static void say(kps_client *client, const char *name, const char *room, const char *line) {
    const kps_ask ask = {.timeout = 5};
    kps_ack *ack = NULL;
    char *json = kps_text_to_json(line), **seen = NULL;
    size_t count = 0;
    must(kps_publish_with_ack(client, room, json, &ask, &ack));
    kps_string_free(json);
    for (kps_outcome *outcome = NULL;; kps_outcome_free(outcome)) {
        must(kps_ack_next(ack, &outcome));
        if (!outcome) break;
        if (!kps_outcome_success(outcome) || strcmp(kps_outcome_name(outcome), name) == 0) continue;
        seen = realloc(seen, (count + 1) * sizeof *seen);
        if (!seen || !(seen[count++] = strdup(kps_outcome_name(outcome)))) abort();
    }
    kps_ack_free(ack);
    if (count > 1) qsort(seen, count, sizeof *seen, compare);
    flockfile(stdout); /* the callbacks have a thread of their own */
    printf("  seen by %s", count ? "" : "nobody");
    for (size_t number = 0; number < count; number++) {
        printf("%s%s", number ? ", " : "", seen[number]);
        free(seen[number]);
    }
    printf("\n");
    funlockfile(stdout);
    free(seen);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: chat_c NAME [ADDRESS] [ROOM]\n");
        return 2;
    }
    char *name = argv[1];
    const char *address = argc > 2 ? argv[2] : "localhost:9313", *room = argc > 3 ? argv[3] : "lobby";
    setvbuf(stdout, NULL, _IOLBF, 0);
    kps_options *options = kps_options_new(address);
    must(kps_options_set_id(options, name));
    kps_client *client = NULL;
    must(kps_connect(options, &client));
    must(kps_subscribe(client, room, NULL, show, name, NULL, NULL));
    printf("you are %s in %s\n", name, room);
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) >= 0) {
        line[strcspn(line, "\n")] = 0;
        say(client, name, room, line);
    }
    free(line);
    kps_client_free(client);
    return 0;
}
