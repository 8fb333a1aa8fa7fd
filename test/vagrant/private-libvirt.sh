#!/bin/bash
# private-libvirt.sh FOLDER COMMAND...: runs a command with a libvirt daemon of its own, in mount, network and process namespaces
# of its own. Whatever it starts ends with it: no process, bridge or firewall rule is left on this machine, and its virtual
# machines have no way out. What the daemon keeps is in FOLDER.
set -eu
state=$1
shift
rm -rf "$state"
mkdir -p "$state"/{etc,lib,cache,log}
export state
exec unshare --mount --net --pid --fork --kill-child --mount-proc bash -c '
  set -eu
  mount -t sysfs sysfs /sys
  mkdir -p /run/libvirt
  cp -r /etc/libvirt/. "$state/etc"
  rm -f "$state"/etc/qemu/networks/autostart/*
  printf "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nlog_outputs = \"2:file:$state/log/libvirtd.log\"\n" >"$state/etc/libvirtd.conf"
  # Machines start without control groups of this machine, and as root: they can read the pool.
  printf "cgroup_controllers = [ ]\nuser = \"root\"\ngroup = \"root\"\n" >>"$state/etc/qemu.conf"
  mount --bind "$state/etc" /etc/libvirt
  mount --bind "$state/lib" /var/lib/libvirt
  mount -t tmpfs tmpfs /run/libvirt
  mount --bind "$state/cache" /var/cache/libvirt
  mount --bind "$state/log" /var/log/libvirt
  ip link set lo up
  virtlogd -d -p "$state/virtlogd.pid"
  libvirtd -d -p "$state/libvirtd.pid"
  for _ in $(seq 50); do
    virsh -q -c qemu:///system uri >/dev/null 2>&1 && break
    sleep 0.2
  done
  code=0
  "$@" || code=$?
  exit $code
' private-libvirt "$@"
