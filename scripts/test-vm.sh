#!/bin/sh
# `npm run test:vm [-- FILES]`: the projects vm and kernel in a guest, or the test files that are named; without names also all flow
# cases, in each mode that the machine outside cannot vouch for.
set -eu
vm() { sh "$(dirname "$0")/vm.sh" --limit 5400 "$@"; }
node=node_modules/.bin/node
if [ $# -gt 0 ]; then
  vm $node node_modules/vitest/vitest.mjs run --project vm --project kernel "$@"
  exit
fi
failed=0
vm $node node_modules/vitest/vitest.mjs run --project vm --project kernel || failed=1
cases=test/cases/flows
[ ! -d ../shared/cases/flows ] || cases="$cases ../shared/cases/flows"
for mode in ipvs nftables iptables; do
  echo "== flow cases in mode $mode"
  # shellcheck disable=SC2086 -- a list of paths
  vm $node test/conformance/main.ts --mode $mode --warm $cases || failed=1
done
exit $failed
