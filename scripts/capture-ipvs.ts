/*
 * Records what ipvsadm(8) sends for a list of commands, and what the kernel answers when all is listed, in a network namespace made
 * for it: needs root, ipvsadm, strace and a kernel with IPVS, such as the guest's.
 * `npm run -s vm -- node scripts/capture-ipvs.ts > src/ipvs/fixtures/ipvsadm-requests.json`
 */
import { run } from '../src/linux/exec.ts'
import { createNetns } from '../src/linux/netns.ts'
import { findFamily, genericHeader, NETLINK_GENERIC } from '../src/netlink/generic-netlink.ts'
import { openNetlink, type NetlinkSocket } from '../src/netlink/netlink-socket.ts'
import { datagrams } from './strace-datagrams.ts'

const commands = [
  '-A -t 10.96.0.1:80 -s rr',
  '-A -u 10.96.0.1:53 -s sh -b sh-fallback,sh-port -o',
  '-A -t [fd00::1]:443 -s mh -p 10800',
  '-A -t 10.96.0.2:80 -s wlc -p 300 -M 255.255.255.0',
  '-A -f 7 -s rr -p 600',
  '-A -f 7 -6 -s wrr',
  '-E -t 10.96.0.1:80 -s wrr',
  '-a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 3',
  '-a -t 10.96.0.1:80 -r 10.0.0.2:8080 -m -x 100 -y 50',
  '-a -t 10.96.0.2:80 -r 10.0.0.3:80 -g -w 1',
  '-a -t 10.96.0.2:80 -r 10.0.0.4:80 -i -w 1',
  '-a -t [fd00::1]:443 -r [fd00:1::1]:8443 -m -w 1',
  '-a -f 7 -r 10.0.0.1:0 -m -w 1',
  '-e -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 0',
  '--set 900 120 300',
  '-d -t 10.96.0.1:80 -r 10.0.0.2:8080',
]
const last = ['-D -t 10.96.0.2:80', '-D -f 7 -6', '-C']

const ipvsadm = process.argv[2] ?? 'ipvsadm'
using netns = createNetns(`flcapture${process.pid}`)
// Where no link is up, there is no table of local addresses, and IPVS takes every real server for a broadcast address.
await run(['ip', 'link', 'set', 'lo', 'up'], { netns })
const requests: { command: string; hex: string | undefined }[] = []
for (const command of commands) await record(command)
const answers = await readAll()
for (const command of last) await record(command)
process.stdout.write(`${JSON.stringify({ requests, answers }, undefined, 2)}\n`)

/** The last datagram is the change; those before it look for the family and its version. */
async function record(command: string): Promise<void> {
  const strace = ['strace', '-e', 'trace=sendmsg,sendto', '-e', 'write=all', ipvsadm, ...command.split(' ')]
  const { code, stderr } = await run(strace, { netns })
  if (code !== 0) throw new Error(`ipvsadm ${command}: ${stderr}`)
  requests.push({ command: `ipvsadm ${command}`, hex: datagrams(stderr).at(-1) })
}

/** What the kernel says when its virtual servers, and the real ones of each, are listed: payloads, and timeouts and version. */
async function readAll(): Promise<Record<string, readonly string[]>> {
  using socket: NetlinkSocket = openNetlink({ protocol: NETLINK_GENERIC, netns })
  const type = await findFamily(socket, 'IPVS')
  if (type === undefined) throw new Error('this kernel has no IPVS')
  const hex = (messages: readonly { readonly payload: Buffer }[]): string[] =>
    messages.map(({ payload }) => payload.toString('hex'))
  const ask = (command: number) => ({ name: `command ${command}`, type, payload: genericHeader(command, 1) })
  const found = await socket.dump(ask(4))
  const virtuals = hex(found)
  const reals: string[] = []
  for (const { payload } of found) {
    const of = { name: 'real servers', type, payload: Buffer.concat([genericHeader(8, 1), payload.subarray(4)]) }
    reals.push(...hex(await socket.dump(of)))
  }
  return { virtuals, reals, timeouts: hex(await socket.request(ask(13))), info: hex(await socket.request(ask(15))) }
}
