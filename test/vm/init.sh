#!/bin/busybox sh
# The guest's first program: puts the host's file system (9p, read-only) under an overlay in memory and goes on there, with
# supervise.sh. What guest.ts wants of this boot is in files on the 9p folder `run`. Messages go to the serial console, a file.
export PATH=/bin
/bin/busybox mkdir -p /bin && /bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro root /host
mount -t tmpfs -o mode=755,size=75% tmpfs /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay /new
for folder in proc sys dev; do mount --move /$folder /new/$folder; done
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t tmpfs -o mode=755 tmpfs /new/run
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
ln -sf /proc/self/fd /new/dev/fd
# What a daemon on the host remembers is none of this machine's business.
mkdir -p /new/var/lib/fairlead
mount -t tmpfs -o mode=755 tmpfs /new/var/lib/fairlead

mkdir -p /new/run/vm
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=512000 run /new/run/vm
share=$(cat /new/run/vm/share)
if [ -n "$share" ]; then
  mkdir -p "/new$share"
  mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=512000 share "/new$share"
fi
release=$(uname -r)
mkdir -p "/new/lib/modules/$release"
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro modules "/new/lib/modules/$release"

# Process 1 itself has to change its root: it shares it with the kernel's threads, which run modprobe for what is missing.
exec switch_root /new /bin/sh /run/vm/supervise.sh
