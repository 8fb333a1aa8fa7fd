#!/bin/sh
# `npm run conformance:matrix`: every flow case in every mode, into docs/conformance.md.
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
ensure_tool iptables iptables "the iptables mode runs it"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# The contract's cases lie beside the repository.
cases=test/cases/flows
[ ! -d ../shared/cases/flows ] || cases="$cases ../shared/cases/flows"

# column NAME OPTIONS...: runs all cases, and goes on when some fail: the table says so.
columns=
column() {
  name=$1
  shift
  say "$name ..."
  # shellcheck disable=SC2086 -- a list of paths
  node_modules/.bin/node test/conformance/main.ts "$@" --json "$results/$name.json" $cases | grep -v '^ok ' >&2 || true
  columns="$columns $name=$results/$name.json"
}
column nftables --mode nftables
column iptables-nft --mode iptables --tools nft
column iptables-legacy --mode iptables --tools legacy
column userspace --mode userspace
# shellcheck disable=SC2086 -- a list of columns
node_modules/.bin/node test/conformance/matrix.ts $columns >"$results/conformance.md"
mv "$results/conformance.md" docs/conformance.md
