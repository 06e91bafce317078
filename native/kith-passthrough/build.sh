#!/bin/sh
# Builds dist/native/kith-passthrough. Root runs a copy of it, which needs nothing but the system's libc.
set -eu
cd "$(dirname "$0")"
out=../../dist/native
g++ -O2 -std=c++20 -Wall -Wextra -Werror -fno-rtti -fno-exceptions -fstack-protector-strong -D_FORTIFY_SOURCE=2 -static-libgcc -static-libstdc++ \
  main.cc sandbox.cc -o "$out/kith-passthrough.new"
mv "$out/kith-passthrough.new" "$out/kith-passthrough"
