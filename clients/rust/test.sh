#!/bin/sh
# Checks everything here: format, lints, tests, the client vectors, and the examples in C and C++ with a real
# server, under valgrind if it is there. KPS_PYTHON is a Python that has KPS; by default the project's.
# Usage: ./test.sh [examples | vectors | rust], all of them by default.

set -eu
cd "$(dirname "$0")"
KPS_PYTHON=${KPS_PYTHON:-$PWD/../../.venv/bin/python}
export KPS_PYTHON
what=${1:-all}

if [ "$what" = all ] || [ "$what" = rust ]; then
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --all-features -- -D warnings
    cargo test --all-features
fi

if ! "$KPS_PYTHON" -c 'import kps' 2>/dev/null; then
    echo "skipped what needs a server: $KPS_PYTHON has no KPS; set KPS_PYTHON"
    exit 0
fi

if [ "$what" = all ] || [ "$what" = vectors ]; then
    cargo build --release -p kps --features tokio --examples
    for testee in testee testee_async; do
        "$KPS_PYTHON" -m kps conformance --client target/release/examples/$testee
    done
fi

if [ "$what" = all ] || [ "$what" = examples ]; then
    cargo build --release -p kps-ffi
    cmake -S kps-ffi -B build
    cmake --build build
    said=$(mktemp)
    "$KPS_PYTHON" -m kps serve --address 127.0.0.1:0 --history 'kept/**=5' --log-level error >"$said" &
    server=$!
    trap 'kill $server; rm "$said"' EXIT
    until grep -q 'ws://' "$said"; do
        kill -0 $server # ends this if the server has ended
        sleep 0.1
    done
    address=$(sed -n 's/.*\(ws:[^ ]*\).*/\1/p' "$said")
    for example in example_c example_cpp; do
        build/$example "$address"
        if command -v valgrind >/dev/null; then
            valgrind --quiet --leak-check=full --error-exitcode=9 "build/$example" "$address"
        fi
    done
fi
