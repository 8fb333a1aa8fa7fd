#!/bin/sh
# `npm run vm -- CMD`: a command, or a shell, in a guest with Debian's own kernel (test/vm/README.md).
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
ensure_guest_tools || true
# Tools found through `env node` must find ours, in the guest too.
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node test/vm/main.ts "$@"
