#!/bin/sh
# Checks everything here: format, lints, tests, the client vectors, and the programs in C and C++ with a real
# server, under valgrind if it is there. KPS_PYTHON is a Python that has KPS; by default the project's.
# Usage: ./test.sh [rust | vectors | examples], all of them by default.
#
# Each step builds all crates with all features for debugging, so that every crate is compiled once.

set -eu
cd "$(dirname "$0")"
KPS_PYTHON=${KPS_PYTHON:-$PWD/../../.venv/bin/python}
export KPS_PYTHON
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
built=$target/debug
programs=$target/programs # in C and C++
what=${1:-all}

wants() { [ "$what" = all ] || [ "$what" = "$1" ]; }

if wants rust; then
    cargo fmt --check
    for features in --no-default-features --all-features; do
        cargo clippy --workspace --exclude kps-ffi --all-targets $features -- -D warnings
        cargo clippy -p kps-ffi $features -- -D warnings # without its test, which needs much that is only checked here
    done
    cargo test --all-features
fi

if ! "$KPS_PYTHON" -c 'import kps' 2>/dev/null; then
    echo "skipped what needs a server: $KPS_PYTHON has no KPS; set KPS_PYTHON"
    exit 0
fi

cargo build --all-features --lib --examples
cmake --log-level=NOTICE -S kps-ffi -B "$programs" -DKPS_TARGET="$built"
cmake --build "$programs" --parallel
logs=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -r "$logs"' EXIT

if wants vectors; then
    set -- "$built/examples/testee" "$built/examples/testee_async"
    [ ! -x "$programs/testee_cpp" ] || set -- "$@" "$programs/testee_cpp"
    for testee in "$@"; do # side by side, as most of the time they wait
        log=$logs/${testee##*/}
        "$KPS_PYTHON" -m kps conformance --client "$testee" >"$log" 2>&1 &
        echo $! >"$log.pid"
    done
    for testee in "$@"; do
        log=$logs/${testee##*/}
        wait "$(cat "$log.pid")" || { cat "$log"; exit 1; }
        echo "${testee##*/}: $(tail -n 1 "$log")"
    done
fi

if wants examples; then
    check=
    if command -v valgrind >/dev/null; then
        check='valgrind --quiet --leak-check=full --error-exitcode=9'
    fi
    said=$logs/server
    "$KPS_PYTHON" -m kps serve --address 127.0.0.1:0 --history 'kept/**=5' --log-level error >"$said" &
    server=$!
    until grep -q 'ws://' "$said"; do
        kill -0 $server # ends this if the server has ended
        sleep 0.1
    done
    address=$(sed -n 's/.*\(ws:[^ ]*\).*/\1/p' "$said")
    for example in example_c example_cpp; do
        $check "$programs/$example" "$address"
    done
    talk() { # a chat of one, whose program follows
        said=$(echo 'Is "anybody" there?' | "$@" alice "$address" room)
        [ "$said" = 'you are alice in room
  seen by nobody' ] || { echo "$*: $said"; exit 1; }
    }
    talk "$built/examples/chat"
    talk $check "$programs/chat_c"
    talk $check "$programs/chat_cpp"
fi
