#!/bin/sh
# `npm run test:vm [-- FILES]`, in a guest: the project vm, what of the project kernel is about IPVS and SCTP, and all flow cases in each mode
# that the machine outside cannot vouch for; or the test files of both projects that are named. `-- src test` is all of them.
set -eu
vm() { sh "$(dirname "$0")/vm.sh" --limit 5400 "$@"; }
node=node_modules/.bin/node
tests() { vm $node node_modules/vitest/vitest.mjs run --project vm --project kernel "$@"; }
if [ $# -gt 0 ]; then
  tests "$@"
  exit
fi
failed=0
tests test/vm src/linux/sctp src/ipvs src/proxy-ipvs || failed=1
cases=test/cases/flows
[ ! -d ../shared/cases/flows ] || cases="$cases ../shared/cases/flows"
for mode in ipvs nftables iptables; do
  echo "== flow cases in mode $mode"
  # shellcheck disable=SC2086 -- a list of paths
  vm $node test/conformance/main.ts --mode $mode --warm $cases || failed=1
done
exit $failed
