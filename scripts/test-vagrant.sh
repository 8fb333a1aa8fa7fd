#!/bin/sh
# `npm run test:vagrant [-- --box-only]`: the Vagrantfile for real: `vagrant up` of a control node and two workers, emulated (QEMU
# without KVM), from a box made here (test/vagrant). As root; on two cores 12 minutes or more, and two more for the first box.
. "$(dirname "$0")/setup.sh"

if [ "$(id -u)" != 0 ]; then
  say "test:vagrant needs root: it runs a libvirt daemon of its own"
  exit 1
fi
ensure_npm_packages
ensure_tool vagrant vagrant-libvirt "is what is tried"
ensure_tool libvirtd libvirt-daemon "runs the machines"
ensure_tool virsh libvirt-clients "asks libvirt"
ensure_tool qemu-system-x86_64 qemu-system-x86 "emulates the machines"
ensure_tool qemu-img qemu-utils "makes the box's disk"
ensure_tool dnsmasq dnsmasq-base "gives the machines their addresses"
ensure_tool rsync rsync "copies the checkout"
ensure_tool ssh openssh-client "is how vagrant talks to the machines"
ensure_tool debootstrap debootstrap "makes the box's root"
ensure_tool grub-mkimage grub-common "makes the box's boot loader"
ensure_tool sfdisk fdisk "makes the box's disk"
ensure_file() { [ -e "$1" ] || ensure_tool "$1" "$2" "$3"; }
ensure_file /usr/lib/grub/i386-pc/boot.img grub-pc-bin "makes the box's boot loader"
ensure_file /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so libvirt-daemon-driver-qemu "runs the machines"
ensure_file /etc/libvirt/qemu.conf libvirt-daemon-system "configures libvirt"

# One box for each way to make it, and for each list of packages in it.
key=$({ cat test/vagrant/make-box.sh; grep '^packages=' scripts/provision.sh; } | sha256sum | cut -c1-16)
boxes=${XDG_CACHE_HOME:-$HOME/.cache}/fairlead/boxes
if [ ! -e "$boxes/$key/box.json" ]; then
  say "Making the box, once ..."
  base=$(node_modules/.bin/node -e 'import("./test/provision/debian-root.ts").then(({ ensureDebian }) => console.log(ensureDebian(process.env)))')
  mkdir -p "$boxes/$key"
  test/vagrant/make-box.sh "$base" "$boxes/$key"
fi
[ "${1:-}" != --box-only ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export VAGRANT_HOME="$work/home" VAGRANT_DOTFILE_PATH="$work/dot" VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DEFAULT_PROVIDER=libvirt
test/vagrant/private-libvirt.sh "$work/libvirt" sh test/vagrant/scenario.sh "$boxes/$key/box.json"
