#!/bin/sh
# Builds native/codes into dist/native/codes.node, with the headers of the system's ISA-L, which is loaded when the addon is.
set -eu
. "$(dirname "$0")/../addon.sh"
echo '#include <isa-l/erasure_code.h>' | g++ -E -x c++ - >/dev/null 2>&1 ||
  fail 'isa-l/erasure_code.h is missing: apt-get install libisal-dev'
here=$root/native/codes
addon codes "$here/calls.cc" "$here/combine.cc" "$here/library.cc" "$here/xors.cc" "$root/native/posix/js.cc" -ldl
