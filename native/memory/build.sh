#!/bin/sh
# Builds native/memory into dist/native/memory.node.
set -eu
. "$(dirname "$0")/../addon.sh"
addon memory "$root/native/memory/calls.cc" "$root/native/posix/js.cc"
