import { spawnSync } from 'node:child_process'
import { closeSync } from 'node:fs'
import { release } from 'node:os'
import { describe, expect, test } from 'vitest'
import { socket } from '../../src/linux/libc.ts'

const inGuest = process.env['FAIRLEAD_GUEST'] !== undefined

/** AF_INET, SOCK_STREAM, SOCK_SEQPACKET and IPPROTO_SCTP (linux/socket.h, linux/net.h, linux/in.h). */
const AF_INET = 2
const SOCK_STREAM = 1
const SOCK_SEQPACKET = 5
const IPPROTO_SCTP = 132

/** Debian 12 builds no `twos`. */
const schedulers = 'rr wrr lc wlc sed nq sh dh lblc lblcr mh fo ovf'.split(' ')

function run(...argv: [string, ...string[]]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(argv[0], argv.slice(1), { encoding: 'utf8' })
  return { code: status, output: stdout + stderr }
}

/** What development machines lack, and the guest is there for; each is loaded on demand, as on a stock Debian. */
describe.skipIf(!inGuest)('the guest kernel (runs in the guest only: npm run test:vm)', () => {
  test('the kernel is that of the Debian which the host is: 6.1 on Debian 12, 6.12 on Debian 13', () => {
    expect(release()).toMatch(/^6\.\d+\.\d+(-\d+|\+deb\d+(\.\d+)?)-amd64$/)
  })

  test.each([
    ['dummy', ['ip', 'link', 'add', 'probe0', 'type', 'dummy']],
    ['ipvlan', ['ip', 'link', 'add', 'link', 'eth0', 'probe0', 'type', 'ipvlan']],
    ['macvlan', ['ip', 'link', 'add', 'link', 'eth0', 'probe0', 'type', 'macvlan']],
    ['vxlan', ['ip', 'link', 'add', 'probe0', 'type', 'vxlan', 'id', '1', 'dstport', '4789']],
    ['netem', ['tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'netem', 'delay', '1ms']],
    ['ipset', ['modprobe', 'ip_set']],
    ['ip_vs', ['modprobe', 'ip_vs']],
    ['each scheduler of IPVS', ['modprobe', '-a', ...schedulers.map((name) => `ip_vs_${name}`)]],
  ])('%s is there', (_, [program = '', ...words]) => {
    try {
      expect(run(program, ...words)).toEqual({ code: 0, output: '' })
    } finally {
      run('ip', 'link', 'del', 'probe0')
      run('tc', 'qdisc', 'del', 'dev', 'eth0', 'root')
    }
  })

  test.each([
    ['one to one', SOCK_STREAM],
    ['one to many', SOCK_SEQPACKET],
  ])('SCTP sockets can be made: %s', (_, type) => {
    const fd = socket(AF_INET, type, IPPROTO_SCTP)
    closeSync(fd)
    expect(fd).toBeGreaterThan(2)
  })

  test('br_netfilter is not loaded: bridged packets are not shown to the IP hooks', () => {
    expect(run('sh', '-c', 'test ! -e /proc/sys/net/bridge')).toEqual({ code: 0, output: '' })
  })

  test('what is written outside of the shared folder is not the host’s: / is an overlay', () => {
    expect(run('stat', '-f', '-c', '%T', '/').output.trim()).toBe('overlayfs')
  })
})
