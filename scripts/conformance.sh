#!/bin/sh
# `npm run -s conformance`: behaviour cases with real packets (test/conformance).
# Paths are the caller's, not the repository's.
caller=${INIT_CWD:-$PWD}
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
case " $* " in *" iptables "*) ensure_tool iptables iptables "the iptables mode runs it" || true ;; esac
root=$PWD
cd "$caller"
exec "$root/node_modules/.bin/node" "$root/test/conformance/main.ts" "$@"
