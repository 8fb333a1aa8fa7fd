# Process 1 of the guest once its root is there: runs one command on /dev/hvc0, writes its exit code where the host reads it,
# and powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname guest
ip link set lo up
# A machine has a way out: without a default route its own connections to Service addresses fail before any rule sees them.
ip link add eth0 type dummy
ip addr add 192.0.2.2/24 dev eth0
ip addr add 2001:db8:2::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8:2::1
cut -d' ' -f1 /proc/uptime >/run/vm/booted

# Whatever becomes of the program that started the guest, the guest does not live for ever.
(sleep $(($(cat /run/vm/limit) + 30)); echo o >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &

# A terminal of its own lets Ctrl-C work in a shell.
setsid --wait sh -c 'exec sh /run/vm/command <>/dev/hvc0 >&0 2>&1'
echo $? >/run/vm/code
sync
echo o >/proc/sysrq-trigger
# Process 1 must not end before the power goes.
sleep 60
