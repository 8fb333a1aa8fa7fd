import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

/** What scripts/provision.sh refuses, before it does anything: the rest is tried in test/provision. */
const script = fileURLToPath(new URL('../../scripts/provision.sh', import.meta.url))
const worker = ['--role', 'worker', '--node-ip', '192.0.2.1', '--pod-cidr', '10.244.1.0/24']

describe('scripts/provision.sh', () => {
  test.each([
    [['--role', 'worker'], '--role worker: --node-ip is missing'],
    [['--role', 'boss'], '--role boss: expected alone, control or worker'],
    [['--mode', 'ebpf'], '--mode ebpf: expected nftables, iptables, ipvs or userspace'],
    [['--node-name', ''], '--node-name: a value is missing'],
    [['--node-name', 'My Node'], '--node-name My Node: expected lower-case letters, digits, - and . (as in DNS)'],
    [['--node-name', 'a\nb'], '--node-name a\nb: expected lower-case letters, digits, - and . (as in DNS)'],
    [[...worker, '--node-ip', '192.168.56'], '--node-ip 192.168.56: expected an IP address'],
    [[...worker, '--node-ip', '192.168.56.256'], '--node-ip 192.168.56.256: expected an IP address'],
    [[...worker, '--pod-cidr', '10.244.1.0'], '--pod-cidr 10.244.1.0: expected a network like 10.244.1.0/24'],
    [[...worker, '--pod-cidr', '10.244.1.0/33'], '--pod-cidr 10.244.1.0/33: expected a network like 10.244.1.0/24'],
    [['--cluster-cidr', '10.244/16'], '--cluster-cidr 10.244/16: expected a network like 10.244.1.0/24'],
    [['--kubeconfig', '/x'], '--kubeconfig is for --role worker'],
    [[...worker, '--kubeconfig', '/no/such'], '--kubeconfig /no/such: cannot be read'],
    [['--prefix', 'opt'], '--prefix opt: expected an absolute path, at least two folders deep'],
    [['--prefix', '/opt/a b'], '--prefix /opt/a b: expected letters, digits and / . _ + - alone'],
    [['--nod', 'x'], '--nod: no such option (--help lists them)'],
  ])('provision.sh %j is refused', (words, message) => {
    const { status, stdout, stderr } = spawnSync('sh', [script, ...words], { encoding: 'utf8' })
    expect([status, stdout, stderr]).toEqual([2, '', `provision.sh: ${message}\n`])
  })

  test.each([
    [[...worker, '--node-ip', 'fd00::1']],
    [[...worker, '--pod-cidr', '10.244.1.0/24,fd00:244:1::/64', '--node-name', 'worker-1.example']],
    [['--cluster-cidr', 'fd00::/8', '--prefix', '/usr/local/fairlead']],
  ])('provision.sh %j is not refused: nobody, who may not install anything, is told so', (words) => {
    // As root it would go on and install.
    const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
    // The script comes by standard input: nobody may not look into every checkout.
    const options = { input: readFileSync(script), cwd: '/', encoding: 'utf8', ...nobody } as const
    const { status, stderr } = spawnSync('sh', ['-s', '--', ...words], options)
    expect([status, stderr]).toEqual([2, 'provision.sh: needs root: it installs packages and a service\n'])
  })
})
