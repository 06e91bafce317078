#!/bin/sh
# Prepares a checkout: system packages, npm packages, the build. Run again, it does only what changed.
#   setup.sh            what `npm run try` and `npm run check` need
#   setup.sh --test     and what the tests need
#   setup.sh --bench    and the peers that the benchmark compares with (those that cannot be had are left out)
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
  || { say "Node >= 20.19 is needed; this is $(node --version)"; exit 1; }

lacking() {
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
  done
}

# install PACKAGES: by apt as root or through a sudo that asks nothing; otherwise tells the line to run, and fails.
install_packages() {
  missing=$(lacking "$@")
  [ -z "$missing" ] && return 0
  as_root=
  if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then as_root='sudo -n'; else
      say "please run: sudo apt-get install -y $missing"; return 1
    fi
  fi
  say "installing $missing"
  $as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the lists at hand"
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
}

if command -v dpkg-query >/dev/null 2>&1; then
  install_packages g++ make python3 fuse3 libsodium-dev libzstd-dev libisal-dev
  case "${1:-}" in
    --test)
      install_packages git rsync attr acl sqlite3 e2fsprogs util-linux strace iproute2
      # Under its newer name where the system has it by that; without it the tests of `kith browse` are left out.
      install_packages libfuse2 || install_packages libfuse2t64 || say "going on without libfuse 2" ;;
    --bench)
      install_packages util-linux iproute2
      for peer in restic borgbackup gocryptfs bindfs; do install_packages "$peer" || true; done ;;
  esac
else
  for tool in g++ make python3 fusermount3; do
    command -v $tool >/dev/null 2>&1 || { say "$tool is needed; install it with your system's package manager"; exit 1; }
  done
  for header in sodium zstd isa-l; do
    echo "#include <$header.h>" | g++ -E -x c++ - >/dev/null 2>&1 ||
      { say "$header.h is needed (of libsodium, libzstd or ISA-L); install them with your system's package manager"; exit 1; }
  done
fi

stamp=node_modules/.kith-setup
wanted=$(cat package.json package-lock.json | cksum)
if [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
  printf '%s' "$wanted" > $stamp
fi

sh scripts/build.sh
