#!/bin/sh
# Runs each fuzz target for some seconds on its corpus: run.sh SECONDS [TARGET...]
#
# Coverage by the stable compiler's own switches, which is what cargo-fuzz uses, too. Inputs that
# bring new coverage stay in target/fuzz; add what is worth keeping to the corpus.
set -eu
cd "$(dirname "$0")"
seconds=$1
shift
[ $# -gt 0 ] || set -- $(cd targets && ls | sed 's/\.rs$//')
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target/fuzz}"
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table" \
    cargo build --release --locked --target "$host"
for target in "$@"; do
    found="$CARGO_TARGET_DIR/found/$target"
    mkdir -p "$found"
    log="$found.log"
    # A decoder of bounded input has no use for more than this: half a GiB, five seconds.
    if ! "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=512 \
        -timeout=5 -max_len=65536 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$found/" "$found" "corpus/$target" \
        >"$log" 2>&1; then
        cat "$log"
        echo "fuzz: $target failed; the input is in $found" >&2
        exit 1
    fi
    echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: //p' "$log") inputs, no finding"
done
