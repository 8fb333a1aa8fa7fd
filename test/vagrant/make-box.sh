#!/bin/bash
# make-box.sh ROOT FOLDER: a box for vagrant-libvirt out of a fresh Debian root (left as it is), in FOLDER: debian.box and box.json.
# No loop device, no mounted image, no grub-install: it works in a container. Its machines are emulated and have no way out, so the
# packages that scripts/provision.sh wants are in it; what that installs from the checkout is not.
set -euo pipefail
base=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "$folder/.box-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$work/box"
cp -a "$base" "$root"
wanted=$(sed -n "s/^packages='\(.*\)'$/\1/p" "$here/../../scripts/provision.sh")
in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/root chroot "$root" "$@"; }
cat /etc/resolv.conf >"$root/etc/resolv.conf"
# No service may start while packages are installed.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
in_root apt-get update -qq
# shellcheck disable=SC2086 -- a list
in_root apt-get install -y -qq --no-install-recommends initramfs-tools linux-image-amd64 openssh-server sudo iputils-ping rsync lz4 $wanted >"$work/apt.log" 2>&1 ||
  { tail -n 20 "$work/apt.log" >&2 && exit 1; }
rm "$root/usr/sbin/policy-rc.d"

in_root useradd -m -s /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$(dpkg -L vagrant | grep 'keys/vagrant.pub$')" "$root/home/vagrant/.ssh/authorized_keys"
in_root chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
echo vagrantbox >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 vagrantbox\n' >"$root/etc/hosts"
echo '/dev/vda1 / ext4 rw,noatime 0 1' >"$root/etc/fstab"
printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\nClientIdentifier=mac\n' >"$root/etc/systemd/network/80-eth0.network"
# Clones of one machine must not have one identity: dbus keeps its own copy.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
# Of this machine, not of the box.
: >"$root/etc/resolv.conf"
printf 'UseDNS no\n' >"$root/etc/ssh/sshd_config.d/vagrant.conf"
in_root systemctl -q enable systemd-networkd ssh
in_root systemctl -q disable systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service || true
in_root systemctl -q mask systemd-logind systemd-fsck-root sys-kernel-debug.mount sys-kernel-tracing.mount dev-mqueue.mount dev-hugepages.mount systemd-journal-flush
sed -i 's/^MODULES=.*/MODULES=list/; s/^#* *COMPRESS=.*/COMPRESS=lz4/' "$root/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$root/etc/initramfs-tools/modules"
in_root update-initramfs -u >/dev/null 2>&1
in_root apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
mkdir -p "$root/boot/grub"
printf '%s\n' 'linux /vmlinuz root=/dev/vda1 ro net.ifnames=0 console=ttyS0 quiet mitigations=off' 'initrd /initrd.img' boot >"$root/boot/grub/grub.cfg"

truncate -s 3071M "$work/part"
mkfs.ext4 -q -F -d "$root" "$work/part"
truncate -s 3072M "$work/disk"
echo 'start=2048, type=83, bootable' | sfdisk -q "$work/disk"
dd if="$work/part" of="$work/disk" bs=1M seek=1 conv=sparse,notrunc status=none
# boot.img loads sector 1 by default: plain dd does grub-install's work.
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core" biosdisk part_msdos ext2 normal configfile linux boot
dd if=/usr/lib/grub/i386-pc/boot.img of="$work/disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core" of="$work/disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -O qcow2 "$work/disk" "$work/box/box.img"
echo '{"provider":"libvirt","format":"qcow2","virtual_size":3}' >"$work/box/metadata.json"
# The defaults of the box: the Vagrantfile of the checkout is merged over them, unedited.
cat >"$work/box/Vagrantfile" <<'RUBY'
Vagrant.configure('2') do |config|
  config.vm.guest = :debian
  config.vm.boot_timeout = 900
  config.vm.provider(:libvirt) do |libvirt|
    libvirt.driver = 'qemu'
    libvirt.cpu_mode = 'custom'
    libvirt.cpu_model = 'qemu64'
    libvirt.graphics_type = 'none'
    libvirt.video_type = 'none'
  end
end
RUBY
tar -C "$work/box" -I 'gzip -1' -cf "$work/debian.box" metadata.json Vagrantfile box.img
mv "$work/debian.box" "$folder/debian.box"
# By the name and with a version, as the published one: the Vagrantfile asks for debian/bookworm64.
echo '{"name":"debian/bookworm64","versions":[{"version":"12.0.0","providers":[{"name":"libvirt","url":"file://'"$folder"'/debian.box"}]}]}' >"$folder/box.json"
