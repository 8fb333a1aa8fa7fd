#!/bin/sh
# `npm start [-- --check]`: the example of examples/hello, from nothing.
. "$(dirname "$0")/setup.sh"

if [ "$(id -u)" != 0 ]; then
  say "fairlead needs root: it creates network namespaces, a bridge and nf_tables rules. Run: sudo npm start"
  exit 1
fi
ensure_npm_packages
ensure_tool curl curl "the example is tried with it"
ensure_tool dig bind9-dnsutils "to ask the cluster DNS by hand" || true
ensure_tool nft nftables "to look at the rules by hand (fairlead itself does not use it)" || true
exec bin/fairlead hello "$@"
