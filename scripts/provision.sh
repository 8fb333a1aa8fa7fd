#!/bin/sh
# Makes a Debian machine (12 or newer) run fairlead as a service, from the checkout that this script is in. Run it again after a
# change: what is there already is left alone. The Vagrantfile uses it, and it serves any other VM; docs/vagrant.md.
set -eu

usage() {
  cat <<'HELP'
Usage: scripts/provision.sh [options]      as root, on Debian 12 or newer

Installs Debian packages, Node (as an npm package), /opt/fairlead, /usr/local/bin/fairlead, fairlead.service and
/etc/fairlead/fairlead.yaml, and starts the service. Can be run again at any time.

  --role ROLE         alone (default): a machine of its own, with the embedded API for kubectl on 127.0.0.1
                      control: the same, and the API over TLS for workers
                      worker: follows the API of a control node, and registers with it
  --node-name NAME    the name of the node (default: the host name)
  --node-ip IP        the address at which other nodes reach this one (needed for control and worker)
  --pod-cidr CIDR     the addresses of the pods of this node (needed for control and worker, another one on each node)
  --cluster-cidr CIDR the addresses of the pods of all nodes (default: 10.244.0.0/16)
  --mode MODE         nftables (default), iptables, ipvs or userspace
  --kubeconfig FILE   for a worker: its way to the API, which "fairlead api node-token NAME" makes on the control node.
                      -: from standard input. Without it the service waits to be started
  --prefix FOLDER     where the program is put (default: /opt/fairlead)
  --no-start          leave the service as it is; it starts with the machine
  --help              this text

A configuration that somebody else wrote or changed is left alone. Machines without a way out: bring the checkout with its
node_modules (npm install --omit=dev, on a machine of the same kind) and install the packages named below before.
HELP
}

packages='bind9-dnsutils ca-certificates curl iproute2 iptables ipvsadm kmod nftables procps'

role=alone node_name= node_ip= pod_cidr= cluster_cidr=10.244.0.0/16 mode=nftables kubeconfig= prefix=/opt/fairlead start=yes
config=/etc/fairlead/fairlead.yaml
credentials=/etc/fairlead/kubeconfig
unit=/etc/systemd/system/fairlead.service
compiled=/var/cache/fairlead/node

say() { printf '%s\n' "$*"; }
refuse() {
  printf 'provision.sh: %s\n' "$*" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --no-start)
      start=no
      shift
      continue
      ;;
    --role | --node-name | --node-ip | --pod-cidr | --cluster-cidr | --mode | --kubeconfig | --prefix) ;;
    *) refuse "$1: no such option (--help lists them)" ;;
  esac
  [ $# -ge 2 ] && [ -n "$2" ] || refuse "$1: a value is missing"
  case $1 in
    --role) role=$2 ;;
    --node-name) node_name=$2 ;;
    --node-ip) node_ip=$2 ;;
    --pod-cidr) pod_cidr=$2 ;;
    --cluster-cidr) cluster_cidr=$2 ;;
    --mode) mode=$2 ;;
    --kubeconfig) kubeconfig=$2 ;;
    --prefix) prefix=$2 ;;
  esac
  shift 2
done

case $role in
  alone) ;;
  control | worker)
    [ -n "$node_ip" ] || refuse "--role $role: --node-ip is missing"
    [ -n "$pod_cidr" ] || refuse "--role $role: --pod-cidr is missing"
    ;;
  *) refuse "--role $role: expected alone, control or worker" ;;
esac
case $mode in
  nftables | iptables | ipvs | userspace) ;;
  *) refuse "--mode $mode: expected nftables, iptables, ipvs or userspace" ;;
esac
case $prefix in
  /*/*) prefix=${prefix%/} ;;
  *) refuse "--prefix $prefix: expected an absolute path, at least two folders deep" ;;
esac
case $prefix in
  *[!A-Za-z0-9/._+-]*) refuse "--prefix $prefix: expected letters, digits and / . _ + - alone" ;;
esac

# matches TEXT PATTERN: all of the text.
matches() { [ "$(printf '%s\n' "$1" | grep -cE '')" = 1 ] && printf '%s\n' "$1" | grep -Eqx "$2"; }
octet='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'
is_ip() { matches "$1" "($octet\\.){3}$octet|[0-9a-fA-F:]*:[0-9a-fA-F:]*"; }
is_cidr() {
  case $1 in
    *:*/*) bits=128 ;;
    */*) bits=32 ;;
    *) return 1 ;;
  esac
  is_ip "${1%/*}" && matches "${1##*/}" '[0-9]{1,3}' && [ "${1##*/}" -le $bits ]
}
# check_cidrs OPTION VALUE: one network, or one of each family with a comma between them.
check_cidrs() {
  for cidr in $(printf '%s' "$2" | tr ',' ' '); do
    is_cidr "$cidr" || refuse "$1 $2: expected a network like 10.244.1.0/24"
  done
}

[ -z "$node_ip" ] || is_ip "$node_ip" || refuse "--node-ip $node_ip: expected an IP address"
check_cidrs --pod-cidr "$pod_cidr"
check_cidrs --cluster-cidr "$cluster_cidr"
[ -z "$kubeconfig" ] || [ "$role" = worker ] || refuse "--kubeconfig is for --role worker"
[ -z "$kubeconfig" ] || [ "$kubeconfig" = - ] || [ -r "$kubeconfig" ] || refuse "--kubeconfig $kubeconfig: cannot be read"
# As Kubernetes makes names of nodes out of host names.
node_name=${node_name:-$(hostname | tr '[:upper:]' '[:lower:]')}
matches "$node_name" '[a-z0-9]([-a-z0-9.]*[a-z0-9])?' ||
  refuse "--node-name $node_name: expected lower-case letters, digits, - and . (as in DNS)"
[ "$(id -u)" = 0 ] || refuse "needs root: it installs packages and a service"
command -v apt-get >/dev/null || refuse "needs Debian: there is no apt-get here"
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) refuse "$(uname -m): expected x86_64 or aarch64" ;;
esac
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
changed=no
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# install_packages NAME...: those that are missing.
install_packages() {
  missing=
  for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "Debian packages:$missing"
  apt-get update -qq
  # shellcheck disable=SC2086 -- a list
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$scratch/apt.log" 2>&1 || {
    cat "$scratch/apt.log" >&2
    exit 1
  }
}

# Whether the packages in a folder are all there and run on this machine.
has_packages() {
  [ -x "$1/node_modules/node-linux-$arch/bin/node" ] || return 1
  (cd "$1" && "node_modules/node-linux-$arch/bin/node" --input-type=module -e '
    import { readFileSync } from "node:fs"
    for (const name of Object.keys(JSON.parse(readFileSync("package.json")).dependencies)) await import(name)
  ') >/dev/null 2>&1
}

# The folders of node_modules that the program needs, without those for development.
production_packages() {
  "$checkout/node_modules/node-linux-$arch/bin/node" --input-type=module -e '
    import { existsSync, readFileSync } from "node:fs"
    const { packages } = JSON.parse(readFileSync("package-lock.json"))
    for (const [path, { dev }] of Object.entries(packages)) if (path && !dev && existsSync(path)) console.log(path)
  '
}

# A fingerprint of what is installed from the checkout: names, sizes and times.
fingerprint() {
  (cd "$checkout" && find bin src bench examples docs systemd package.json package-lock.json README.md LICENSE \
    -path bench/out -prune -o -type f -printf '%p %s %T@\n' | LC_ALL=C sort | sha256sum)
}

install_program() {
  if [ "$checkout" = "$prefix" ]; then
    has_packages "$prefix" || install_node_packages "$prefix"
    return
  fi
  fingerprint >"$scratch/fingerprint"
  if cmp -s "$scratch/fingerprint" "$prefix/.provisioned" && has_packages "$prefix"; then return; fi
  say "fairlead: to $prefix"
  # Beside the old one, which runs meanwhile, and in its place at one go.
  rm -rf "$prefix.new"
  mkdir -p "$prefix.new"
  (cd "$checkout" && tar -cf - --exclude=bench/out bin src bench examples docs systemd package.json package-lock.json README.md LICENSE) |
    tar -xf - -C "$prefix.new" --no-same-owner
  if has_packages "$checkout"; then
    (cd "$checkout" && production_packages >"$scratch/packages" &&
      tar -cf - --exclude="node_modules/node-linux-$arch/include" -T "$scratch/packages") |
      tar -xf - -C "$prefix.new" --no-same-owner
  else
    install_node_packages "$prefix.new"
  fi
  mv "$scratch/fingerprint" "$prefix.new/.provisioned"
  rm -rf "$prefix.old"
  [ ! -e "$prefix" ] || mv "$prefix" "$prefix.old"
  mv "$prefix.new" "$prefix"
  rm -rf "$prefix.old"
  changed=yes
}

# Node 24 itself is one of them. Not `npm ci`: it insists on optional binaries for every platform. No package needs its scripts.
install_node_packages() {
  command -v npm >/dev/null || install_packages npm
  say "npm packages, Node among them"
  (cd "$1" && npm install --no-save --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error)
  has_packages "$1" && return
  say "the npm packages in $1 are not complete" >&2
  exit 1
}

# put FILE MODE: standard input as that file, if it is not that already.
put() {
  cat >"$scratch/file"
  if cmp -s "$scratch/file" "$1"; then return; fi
  mkdir -p "$(dirname "$1")"
  install -m "$2" "$scratch/file" "$1"
  say "wrote $1"
  changed=yes
}

# What is below the first line is ours as long as its checksum is in that line.
own_mark='# Written by scripts/provision.sh; it leaves this file alone once it was changed. sha256'

put_config() {
  if [ -e "$config" ]; then
    sum=$(sed 1d "$config" | sha256sum | cut -d' ' -f1)
    if [ "$(head -n 1 "$config")" != "$own_mark $sum" ]; then
      say "$config is somebody else's, or changed: left alone"
      return
    fi
  fi
  write_config >"$scratch/config"
  {
    echo "$own_mark $(sha256sum <"$scratch/config" | cut -d' ' -f1)"
    cat "$scratch/config"
  } | put "$config" 644
}

write_config() {
  echo "nodeName: $node_name"
  case $role in
    alone) ;;
    control)
      # All addresses: the command line and kubectl here use 127.0.0.1, workers that of the node.
      cat <<YAML
api:
  listen: 0.0.0.0:6443
node:
  address: $node_ip
YAML
      ;;
    worker)
      cat <<YAML
sources:
  kubernetes:
    kubeconfig: $credentials
node:
  register: true
  address: $node_ip
YAML
      ;;
  esac
  if [ "$role" != alone ]; then
    printf 'network:\n  subnets: [%s]\n' "$pod_cidr"
    # Without this, pods would have IPv6 addresses that other nodes do not reach.
    case $pod_cidr in *:*) ;; *) echo '  ipv6: false' ;; esac
  fi
  printf 'services:\n  mode: %s\n' "$mode"
  [ "$role" = alone ] || printf '  clusterCIDRs: [%s]\n' "$cluster_cidr"
  printf 'log:\n  format: text\n'
}

# Has Node compile the program once, for the service and for the command line. Emulated, that takes seconds, and V8 now and then dies
# of it (in the WebAssembly that strips types: "Check failed: it->second.Size() > offset"): then again.
fill_compile_cache() {
  [ "$changed" = yes ] || [ ! -d "$compiled" ] || return 0
  mkdir -p "$compiled"
  for _ in 1 2 3; do
    if NODE_COMPILE_CACHE=$compiled "$prefix/bin/fairlead" --help >"$scratch/help" 2>&1; then return; fi
  done
  cat "$scratch/help" >&2
  exit 1
}

install_service() {
  ln -sfn "$prefix/bin/fairlead" /usr/local/bin/fairlead
  sed "s|/opt/fairlead/|$prefix/|g" "$checkout/systemd/fairlead.service" | put "$unit" 644
  install -d -m 700 /var/lib/fairlead
}

start_service() {
  running=no
  if [ -d /run/systemd/system ]; then running=yes && systemctl daemon-reload; fi
  systemctl enable --quiet fairlead.service
  if [ "$start" = no ] || [ "$running" = no ]; then return; fi
  if [ "$role" = worker ] && [ ! -e "$credentials" ]; then
    say "fairlead waits for $credentials: run this again with --kubeconfig"
    return
  fi
  # What failed before says nothing about this start, and what is active now may be about to end.
  before=$(systemctl show --value --property=InvocationID fairlead)
  systemctl reset-failed fairlead 2>/dev/null || true
  # Not to wait for ever: a worker is ready when it has heard of the API server.
  if [ "$changed" = yes ]; then systemctl restart --no-block fairlead; else systemctl start --no-block fairlead; fi
  for _ in $(seq 600); do
    case $(systemctl is-active fairlead || true) in
      active)
        if [ "$changed" = no ] || [ "$(systemctl show --value --property=InvocationID fairlead)" != "$before" ]; then
          say "fairlead is active"
          return
        fi
        ;;
      failed) break ;;
    esac
    sleep 0.5
  done
  systemctl status --no-pager --lines=20 fairlead >&2 || true
  exit 1
}

if [ "$kubeconfig" = - ]; then
  cat >"$scratch/kubeconfig"
  [ -s "$scratch/kubeconfig" ] || refuse "--kubeconfig -: standard input is empty"
fi
# shellcheck disable=SC2086 -- a list
install_packages $packages
install_program
fill_compile_cache
install_service
put_config
case $kubeconfig in
  '') ;;
  -) put "$credentials" 600 <"$scratch/kubeconfig" ;;
  *) put "$credentials" 600 <"$kubeconfig" ;;
esac
start_service
