#!/bin/sh
# Builds what changed: native/ (each part by its own build.sh into dist/native), the TypeScript (into dist), and of that the
# bundles of what is started (bundle.mjs). As many parts at a time as there are processors.
#   build.sh          all
#   build.sh PART     one: a folder of native/, or `lib` for the TypeScript without its bundles
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist/native

# A part of native/ is built again when the sum over its sources differs from the one kept at its last build.
build_native() {
  stamp=dist/native/.$(basename "$1")
  sum=$( (cat "$1"/* native/addon.sh native/*/*.h native/posix/js.cc; node --version; uname -m) | cksum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return
  rm -f "$stamp"
  sh "$1/build.sh"
  printf '%s' "$sum" > "$stamp"
}

case "${1:-}" in
  '') ;;
  lib) exec node_modules/.bin/tsc ;;
  *) build_native "$1"; exit ;;
esac

{ echo lib; for part in native/*/build.sh; do dirname "$part"; done; } |
  xargs -P "$(nproc)" -n 1 sh scripts/build.sh
node scripts/bundle.mjs
chmod +x dist/lib/cli/main.js
