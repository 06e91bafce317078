#!/bin/sh
# FastCDC from AssemblyScript to dist/native/fastcdc.wasm. It brings no runtime and no allocator; the memory is imported.
set -eu
cd "$(dirname "$0")/../.."
node_modules/.bin/asc native/fastcdc/fastcdc.ts --outFile dist/native/fastcdc.wasm \
  --runtime stub --noAssert --importMemory --noExportMemory --initialMemory 65 -O3 --converge
