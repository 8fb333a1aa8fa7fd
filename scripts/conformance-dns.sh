#!/bin/sh
# `npm run -s conformance:dns`: DNS cases over real sockets (test/conformance-dns).
# Paths are the caller's, not the repository's.
caller=${INIT_CWD:-$PWD}
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
root=$PWD
cd "$caller"
# The runner makes a network namespace of its own. Without root a user namespace, where the kernel allows it, is enough.
if [ "$(id -u)" != 0 ] && unshare --map-root-user --net true 2>/dev/null; then
  exec unshare --map-root-user "$root/node_modules/.bin/node" "$root/test/conformance-dns/main.ts" "$@"
fi
exec "$root/node_modules/.bin/node" "$root/test/conformance-dns/main.ts" "$@"
