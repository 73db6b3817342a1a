#!/usr/bin/env bash
# examples/wasm/build.sh OUT [ARGUMENTS OF CARGO BUILD...]
#
# Builds both modules (or those that MODULES names) and puts them into the folder OUT, packed, with the page and its models: what
# a server of files is to serve. README.md says which toolchains do.
set -euo pipefail
out=$1
shift
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
# Side by side: most of the time each has one core to do.
build() {
    local module=$1 flags="-C strip=symbols"
    shift
    [ "$module" = plain ] || flags+=" -C target-feature=+simd128"
    # As a cdylib alone: cargo doesn't optimise across crates (`lto`) what is a library for Rust too.
    RUSTFLAGS="${RUSTFLAGS:-} $flags" CARGO_TARGET_DIR=$target/$module ${CARGO:-cargo} rustc -q \
        --release --locked --lib --crate-type cdylib --target wasm32-unknown-unknown "$@"
    # Without a name and a time, so that the same module gives the same file.
    gzip -9nc "$target/$module/wasm32-unknown-unknown/release/teff_wasm.wasm" \
        >"$out/teff-$module.wasm.gz"
}
running=()
for module in ${MODULES:-plain simd128}; do
    build "$module" "$@" &
    running+=($!)
done
for one in "${running[@]}"; do wait "$one"; done
cp index.html page.js teff.js worker.js "$out/"
cp ../gpt2/model.gguf "$out/stories-3m.gguf"
cp ../bare_metal/model-q8_0.gguf "$out/stories-260k.gguf"
