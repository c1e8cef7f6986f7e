#!/usr/bin/env bash
# Builds attn_rl.wasm anew: after every change of wasm.cpp or ../runtime/attn_rl.hpp. Needs Emscripten (apt install
# emscripten; the module in the package is by 3.1.6). The optional argument is the file to write.
set -euo pipefail
cd "$(dirname "$0")"
sources=$(cat wasm.cpp ../runtime/attn_rl.hpp | sha256sum | cut -c1-64)
em++ -std=c++17 -Oz -DSOURCES="\"$sources\"" -I../runtime wasm.cpp -o "${1:-attn_rl.wasm}" \
    -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH --no-entry
