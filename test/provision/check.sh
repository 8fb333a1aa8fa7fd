#!/bin/sh
# Runs as root on a machine that scripts/provision.sh made, with systemd: one line "ok NAME" or "not ok NAME: REASON" each.
# $1: a script that serves HTTP, for pods.
server=$1
node=$(echo /opt/fairlead/node_modules/node-linux-*/bin/node)
failed=0

# check NAME COMMAND...: the command succeeds.
check() {
  name=$1
  shift
  if output=$("$@" 2>&1); then echo "ok $name"; else failed=1 && echo "not ok $name: $(echo "$output" | tail -n 15 | tr '\n' '|')"; fi
}
is() { [ "$1" = "$2" ] || { echo "$1, expected $2"; return 1; }; }
# eventually COMMAND...: within a minute.
eventually() {
  for _ in $(seq 120); do
    if last=$("$@" 2>&1); then return 0; fi
    sleep 0.5
  done
  echo "$last"
  return 1
}
property() { systemctl show --value --property "$1" "$2"; }
active() { is "$(property ActiveState fairlead)" active; }
answers() { is "$(curl -sS --max-time 20 "$1" | cut -c1-14)" 'hello from web'; }
fresh() { active && [ "$(property MainPID fairlead)" != "$1" ] || { property MainPID fairlead; return 1; }; }

check 'the service becomes active' eventually active
echo "# active $(cut -d' ' -f1 /proc/uptime) s after the boot: $(property StatusText fairlead)"
check 'active means ready' sh -c 'fairlead status --json >/tmp/status && grep -q "\"ready\": *true" /tmp/status'
echo "# $(systemd-analyze security fairlead.service --no-pager 2>/dev/null | tail -n 1)"
systemctl show fairlead --property=CapabilityBoundingSet --property=ProtectSystem --property=WatchdogUSec | sed 's/^/# /'

cat >/etc/fairlead/web.yaml <<YAML
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
YAML
check 'objects are taken' fairlead apply -f /etc/fairlead/web.yaml
check 'a pod is run' fairlead pod run web --label app=web -- "$node" "$server" web 8080
check 'the Service answers' eventually answers http://10.96.0.80/
check 'by name, in the pod' sh -c "fairlead pod exec web -- curl -sS --max-time 20 http://web/ | grep 'hello from web'"
check 'the name of its network namespace is there for everybody' ip netns exec fl-default.web ip address show eth0
unit=fairlead-pod-default.web.service
check 'the pod is a unit of its own' is "$(property ActiveState $unit)" active
pod=$(property MainPID $unit)
full=$(awk '/CapBnd/ {print $2}' /proc/1/status)
check 'the pod has the capabilities of the machine' is "$(awk '/CapBnd/ {print $2}' "/proc/$pod/status")" "$full"
check 'the pod has no filter of system calls' is "$(awk '/^Seccomp:/ {print $2}' "/proc/$pod/status")" 0
daemon=$(property MainPID fairlead)
check 'the daemon has a filter of system calls' is "$(awk '/^Seccomp:/ {print $2}' "/proc/$daemon/status")" 2
check 'the daemon cannot write to /usr' sh -c "! nsenter --mount=/proc/$daemon/ns/mnt -- touch /usr/x"
echo '$HOME ${HOME} $$' >/tmp/words
check 'a command with dollar signs is run as it is' sh -c "fairlead pod run words -- echo '\$HOME \${HOME} \$\$' && sleep 3 && fairlead pod logs words | grep -xF -f /tmp/words"
check 'the exit code of a command is seen' eventually sh -c "fairlead pod ls | grep -E 'words.*exited.*0'"

check 'reload of a wrong configuration fails' sh -c "
  cp /etc/fairlead/fairlead.yaml /tmp/right; echo 'sevices: {}' >>/etc/fairlead/fairlead.yaml
  ! systemctl reload fairlead && journalctl -u fairlead --no-pager | grep 'sevices.*services'"
check 'the daemon goes on' active
check 'reload of a right one succeeds' sh -c 'cp /tmp/right /etc/fairlead/fairlead.yaml && systemctl reload fairlead'

survives() {
  is "$(property MainPID $unit)" "$pod" && eventually answers http://10.96.0.80/ && fairlead pod exec web -- true
}
systemctl restart fairlead
check 'restart: the daemon is another one' fresh "$daemon"
check 'restart: the pod lives on' survives
daemon=$(property MainPID fairlead)
kill -KILL "$daemon"
check 'kill -9: it is started again' eventually fresh "$daemon"
check 'kill -9: the pod lives on' survives
systemctl stop fairlead
check 'stop: Services go on in the kernel' answers http://10.96.0.80/
check 'stop: the pod lives on' is "$(property MainPID $unit)" "$pod"
systemctl start fairlead
check 'start: the pod is taken over' survives
check 'a pod is removed' fairlead pod rm web
check 'a removed pod leaves no namespace' sh -c '! ip netns | grep fl-default.web'
check 'a removed pod leaves no unit' eventually sh -c "is() { [ \"\$1\" = \"\$2\" ]; }; is \"\$(systemctl show --value --property ActiveState $unit)\" inactive"
check 'its name can be used again at once' sh -c "fairlead pod run web -- true && fairlead pod rm web && fairlead pod run web -- true"
check 'the log has no errors' sh -c "! journalctl -u fairlead --no-pager | grep -E ' ERROR | error ' | grep -v sevices"
exit $failed
