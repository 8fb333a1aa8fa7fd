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
# The same in the guest with Debian's own kernel, which has IPVS and SCTP.
guest_column() {
  name=$1
  shift
  say "$name, in a guest ..."
  # shellcheck disable=SC2086 -- a list of paths
  node_modules/.bin/node test/vm/main.ts --share "$results" node_modules/.bin/node test/conformance/main.ts "$@" --warm \
    --json "$results/$name.json" $cases | grep -v '^ok ' >&2 || true
  if [ -f "$results/$name.json" ]; then columns="$columns $name=$results/$name.json"; fi
}
# With results that are there already (NAME=FILE.json ...) nothing is run: they are the columns.
if [ $# -gt 0 ]; then
  columns=$*
else
  column nftables --mode nftables
  column iptables-nft --mode iptables --tools nft
  column iptables-legacy --mode iptables --tools legacy
  column userspace --mode userspace
  if ensure_guest_tools; then
    guest_column ipvs-6.1 --mode ipvs
    guest_column nftables-6.1 --mode nftables
    guest_column iptables-nft-6.1 --mode iptables --tools nft
    guest_column iptables-legacy-6.1 --mode iptables --tools legacy
  fi
fi
# shellcheck disable=SC2086 -- a list of columns
node_modules/.bin/node test/conformance/matrix.ts $columns >"$results/conformance.md"
mv "$results/conformance.md" docs/conformance.md
