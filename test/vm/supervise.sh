# Process 1 of the guest once its root is there: runs the command, or becomes the systemd of that root, which does.
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

if [ "$(cat /run/vm/init)" = systemd ]; then
  mkdir -p /run/systemd/system/multi-user.target.wants
  cat >/run/systemd/system/guest-command.service <<'UNIT'
[Unit]
Description=The command of this guest
[Service]
ExecStart=/bin/sh /run/vm/run-command.sh
UNIT
  ln -s ../guest-command.service /run/systemd/system/multi-user.target.wants/
  # Logins there would mix with the command's output.
  for console in hvc0 ttyS0; do ln -s /dev/null "/run/systemd/system/serial-getty@$console.service"; done
  exec /lib/systemd/systemd
fi
sh /run/vm/run-command.sh
# Process 1 must not end before the power goes.
sleep 60
