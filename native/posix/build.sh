#!/bin/sh
# Builds native/posix into dist/native/posix.node.
set -eu
. "$(dirname "$0")/../addon.sh"
here=$root/native/posix
addon posix "$here/calls.cc" "$here/direct.cc" "$here/directory.cc" "$here/files.cc" "$here/intake.cc" "$here/js.cc" "$here/xattrs.cc"
