# Sourced by start.sh and test.sh: installs what is missing and says so. Does nothing when all is there.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# Installs the npm packages of package-lock.json, unless that was done for this very lock file.
ensure_npm_packages() {
  stamp=node_modules/.fairlead-lock
  if [ -f "$stamp" ] && cmp -s package-lock.json "$stamp"; then return; fi
  say "Installing npm packages (Node 24 itself is one of them) ..."
  # Not `npm ci`: it insists on optional binaries for every platform. --no-save leaves the lock file alone.
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
}

# ensure_tool COMMAND PACKAGE REASON: installs a Debian package when the command is not there. Returns 1 if it cannot.
ensure_tool() {
  if command -v "$1" >/dev/null 2>&1; then return 0; fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "$1 is missing ($3); install it by hand: this machine has no apt-get"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    say "$1 is missing ($3); as root: apt-get install $2"
    return 1
  fi
  say "Installing Debian package $2: $3"
  if [ -z "${apt_updated:-}" ]; then
    apt-get update -qq >&2 || true
    apt_updated=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 || {
    say "cannot install $2: run 'apt-get install $2' to see why"
    return 1
  }
}

# What test/vm needs to boot a guest.
ensure_guest_tools() {
  ensure_tool qemu-system-x86_64 qemu-system-x86 "runs the guest kernel of test/vm" || return 1
  ensure_tool busybox busybox-static "is the guest's first program" || return 1
  ensure_tool depmod kmod "tells the guest which kernel module needs which" || return 1
}
