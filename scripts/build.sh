#!/bin/sh
# Builds what changed: native/ (each part by its own build.sh into dist/native) and the TypeScript (into dist).
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist/native

# A part of native/ is built again when the sum over its sources differs from the one kept at its last build.
for part in native/*/build.sh; do
  [ -f "$part" ] || continue
  folder=$(dirname "$part")
  stamp=dist/native/.$(basename "$folder")
  sum=$( (cat "$folder"/* native/addon.sh native/*/*.h native/posix/js.cc; node --version; uname -m) | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
    rm -f "$stamp"
    sh "$part"
    printf '%s' "$sum" > "$stamp"
  fi
done

node_modules/.bin/tsc
chmod +x dist/lib/cli/main.js 2>/dev/null || true
