#!/bin/sh
# Builds native/seal into dist/native/seal.node, with the libsodium and the zstd of the system.
set -eu
. "$(dirname "$0")/../addon.sh"
for header in sodium zstd; do
  echo "#include <$header.h>" | g++ -E -x c++ - >/dev/null 2>&1 ||
    fail "$header.h is missing: apt-get install libsodium-dev libzstd-dev"
done
addon seal "$root/native/seal/seal.cc" "$root/native/seal/shard.cc" "$root/native/seal/calls.cc" "$root/native/posix/js.cc" -lsodium -lzstd
