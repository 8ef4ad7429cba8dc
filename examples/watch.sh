#!/bin/sh
# Prints the messages of a topic, one a line, with curl only. When the connection is lost, it goes on where it was.
# Usage: watch.sh HOST:PORT TOPIC
set -eu
place=$(mktemp)
trap 'rm -f "$place"' EXIT
trap 'exit 1' INT TERM
while :; do
    curl -sfNG --data-urlencode "topic=$2" -H "Last-Event-ID: $(cat "$place")" "http://$1/sse" |
        while IFS= read -r line; do
            case $line in
            "id: "*) id=${line#id: } ;;
            "event: "*) name=${line#event: } ;;
            "data: "*) [ -n "${name:-}" ] || printf '%s\n' "${line#data: }" ;;
            "") # the event is complete
                [ "${name:-}" != gap ] || echo "some messages are lost" >&2
                name=
                printf '%s' "${id:-}" >"$place"
                ;;
            esac
        done || true
    sleep 1
done
