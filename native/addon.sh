#!/bin/sh
# Sourced by the build.sh of an addon: `addon NAME SOURCES AND LIBRARIES` builds dist/native/NAME.node with g++ and the
# headers of the Node that will load it.
root=$(cd "$(dirname "$0")/../.." && pwd)

fail() { printf 'native: %s\n' "$*" >&2; exit 1; }

has_headers() { [ -n "$1" ] && [ -f "$1/node_api.h" ]; }

# Where node_api.h may lie: beside the binary (tarball, nodesource), where npm is told, in Debian's libnode-dev,
# and in node-gyp's cache.
find_headers() {
  binary=$(readlink -f "$(node -p process.execPath)")
  version=$(node -p process.versions.node)
  include=
  for candidate in \
    "$(dirname "$binary")/../include/node" \
    "$(npm config get nodedir 2>/dev/null || true)/include/node" \
    /usr/include/node \
    "/usr/include/$(uname -m)-linux-gnu/node" \
    "${XDG_CACHE_HOME:-$HOME/.cache}/node-gyp/$version/include/node"; do
    if has_headers "$candidate"; then include=$candidate; break; fi
  done
  if [ -z "$include" ] && [ -x "$root/node_modules/.bin/node-gyp" ]; then
    (cd "$root" && node_modules/.bin/node-gyp install >&2) || true
    candidate=${XDG_CACHE_HOME:-$HOME/.cache}/node-gyp/$version/include/node
    if has_headers "$candidate"; then include=$candidate; fi
  fi
  [ -n "$include" ] || fail "the headers of Node $version (node_api.h) are missing. With Debian's or Ubuntu's own" \
    "nodejs: apt-get install libnode-dev. Otherwise: npx node-gyp install (needs network), or" \
    "npm config set nodedir DIR, where DIR/include/node has them"
}

addon() {
  command -v g++ >/dev/null || fail 'g++ is missing: apt-get install g++'
  find_headers
  out=$root/dist/native/$1.node
  shift
  mkdir -p "$(dirname "$out")"
  # Compiled beside its place and renamed: a process that has the old one loaded keeps it.
  g++ -std=c++20 -O2 -g -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -isystem "$include" -o "$out.new" "$@"
  mv -f "$out.new" "$out"
}
