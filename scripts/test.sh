#!/bin/sh
# `npm test`: everything that this machine can run, ending in one summary line.
. "$(dirname "$0")/setup.sh"

ensure_npm_packages
ensure_tool curl curl "tests use it as a client" || true
ensure_tool nft nftables "tests compare our rules with what nft lists" || true
ensure_tool dig bind9-dnsutils "tests use it as a DNS client" || true
ensure_tool ip iproute2 "tests use it as a second opinion" || true
ensure_tool dnsmasq dnsmasq-base "tests of the DHCP client use it as the server" || true
# Where systemd runs, the package would start a Docker of the machine's own: whoever wants that installs it.
[ -d /run/systemd/system ] || ensure_tool dockerd docker.io "tests run it beside fairlead" || true
ensure_tool busybox busybox-static "is what containers of tests are made of" || true
ensure_tool vagrant vagrant-libvirt "looks at the Vagrantfile" || true
ensure_tool iptables-save iptables "tests compare Docker's rules with it" || true
ensure_tool chromium chromium "tests look at the report of the benchmark in it" || true
[ "${FAIRLEAD_TEST_VM:-}" = 0 ] || ensure_guest_tools || true
# Tools found through `env node` must find ours.
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node scripts/test.ts "$@"
