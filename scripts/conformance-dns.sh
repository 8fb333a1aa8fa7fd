#!/bin/sh
# `npm run -s conformance:dns`: DNS cases over real sockets (test/conformance-dns).
# Paths are the caller's, not the repository's.
caller=${INIT_CWD:-$PWD}
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
root=$PWD
cd "$caller"
exec "$root/node_modules/.bin/node" "$root/test/conformance-dns/main.ts" "$@"
