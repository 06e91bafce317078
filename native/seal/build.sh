#!/bin/sh
# Builds native/seal into dist/native/seal.node, with the libsodium and the zstd of the system.
set -eu
. "$(dirname "$0")/../addon.sh"
for header in sodium zstd; do
  echo "#include <$header.h>" | g++ -E -x c++ - >/dev/null 2>&1 ||
    fail "$header.h is missing: apt-get install libsodium-dev libzstd-dev"
done
here=$root/native/seal
# Sums are made in the order in which they are written: hashes.cc is 5 % faster so.
addon seal -fno-tree-reassoc "$here/seal.cc" "$here/cipher.cc" "$here/cipher_broad.cc" "$here/guess.cc" "$here/hashes.cc" "$here/shard.cc" "$here/portion.cc" "$here/calls.cc" "$root/native/posix/js.cc" -lsodium -lzstd
