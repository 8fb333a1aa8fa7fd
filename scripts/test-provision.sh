#!/bin/sh
# `npm run test:provision`: scripts/provision.sh on a fresh Debian, and that Debian booted (test/provision). Some minutes.
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
ensure_tool debootstrap debootstrap "makes the fresh Debian" || true
ensure_guest_tools || true
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node node_modules/vitest/vitest.mjs run --project provision "$@"
