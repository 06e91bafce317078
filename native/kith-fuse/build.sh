#!/bin/sh
# Builds dist/native/kith-fuse; with --sanitize, dist/native/kith-fuse-sanitized with the address and
# undefined-behaviour sanitizers; with --sanitize=thread, dist/native/kith-fuse-threads with the thread sanitizer.
set -eu
cd "$(dirname "$0")"
out=../../dist/native
name=kith-fuse
flags='-O2'
if [ "${1:-}" = --sanitize ]; then
  name=kith-fuse-sanitized
  flags='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'
elif [ "${1:-}" = --sanitize=thread ]; then
  name=kith-fuse-threads
  # It knows no fences; those of changes.cc are between processes, which it cannot see in any case.
  flags='-O1 -g -fsanitize=thread -Wno-tsan'
fi
objects=$out/$name.objects
mkdir -p "$objects"
flags="$flags -std=c++20 -Wall -Wextra -Werror -fno-rtti -pthread -D_FILE_OFFSET_BITS=64"

ls ./*.cc | xargs -P "$(nproc)" -I{} sh -c \
  "g++ $flags -c {} -o '$objects'/\$(basename {} .cc).o || exit 255"
g++ $flags "$objects"/*.o -o "$out/$name.new"
mv "$out/$name.new" "$out/$name"
rm -r "$objects"
