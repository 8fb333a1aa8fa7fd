import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { run, spawnIn } from '../../src/linux/exec.ts'
import { createAnonymousNetns, type Netns } from '../../src/linux/netns.ts'

/** Debian's dnsmasq (package dnsmasq-base); undefined where it is not there. */
export const dnsmasqPath = ['/usr/sbin/dnsmasq', '/usr/bin/dnsmasq'].find((path) => existsSync(path))

/** A line of dnsmasq's lease file. */
export interface ServerLease {
  /** Seconds since 1970. */
  readonly expires: number
  readonly mac: string
  readonly ip: string
  /** The host name that the client said; `*` when it said none. */
  readonly name: string
}

/**
 * A LAN with a DHCP server, 192.168.77.1, in a namespace of its own, and a host on it whose link is `eth0`, which has no
 * address. Nothing of the machine's own network is touched.
 */
export class DhcpLan implements AsyncDisposable {
  readonly lan = createAnonymousNetns()
  readonly host = createAnonymousNetns()
  readonly #folder = mkdtempSync(join(tmpdir(), 'dhcp-lan-'))
  readonly #leaseFile = join(this.#folder, 'leases')
  #server: ChildProcess | undefined
  #output = ''

  static async open(): Promise<DhcpLan> {
    const lan = new DhcpLan()
    await ip(lan.host, 'link add eth0 type veth peer name lan0 netns', lan.lan.path)
    await ip(lan.host, 'link set eth0 up')
    await ip(lan.lan, 'link set lan0 up')
    await ip(lan.lan, 'address add 192.168.77.1/24 dev lan0')
    return lan
  }

  /** What the server logged since it was started. */
  get output(): string {
    return this.#output
  }

  /** Starts the server with a range as `--dhcp-range` has it: `FIRST,LAST,SECONDS`; at least 120 s. */
  async startServer(range: string, options: readonly string[] = []): Promise<void> {
    const argv = [
      dnsmasqPath ?? 'dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--port=0', '--interface=lan0',
      '--bind-interfaces', '--no-ping', '--log-facility=-', '--log-dhcp', '--user=root', '--pid-file=',
      `--dhcp-leasefile=${this.#leaseFile}`, `--dhcp-range=${range}`, ...options,
    ] // prettier-ignore
    this.#server = spawnIn(this.lan, argv, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#output = ''
    this.#server.stderr!.on('data', (chunk: Buffer) => (this.#output += chunk.toString()))
    await vi.waitFor(() => expect(this.#output).toContain('DHCP, sockets bound'), 5000)
  }

  async stopServer(): Promise<void> {
    if (!this.#server) return
    const ended = once(this.#server, 'exit')
    this.#server.kill()
    await ended
    this.#server = undefined
  }

  /** The server's memory. */
  get leases(): ServerLease[] {
    const lines = readFileSync(this.#leaseFile, 'utf8').split('\n')
    return lines
      .filter((line) => line !== '')
      .map((line) => {
        const [expires, mac = '', address = '', name = ''] = line.split(' ')
        return { expires: Number(expires), mac, ip: address, name }
      })
  }

  forgetLeases(): void {
    rmSync(this.#leaseFile, { force: true })
  }

  /** A namespace with a macvlan link `eth0` on the host's, up and without an address. */
  async createPod(mac: string): Promise<Netns> {
    const netns = createAnonymousNetns()
    // Linux 6.1 takes no name that a link of the asking namespace has.
    await ip(this.host, 'link add link eth0 name born netns', netns.path, 'address', mac, 'type macvlan mode bridge')
    await ip(netns, 'link set born name eth0')
    await ip(netns, 'link set eth0 up')
    return netns
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopServer()
    this.lan[Symbol.dispose]()
    this.host[Symbol.dispose]()
    rmSync(this.#folder, { recursive: true })
  }
}

/** Runs ip(8) in a namespace; its words may be given several at a time. Fails the test when it fails. */
export async function ip(netns: Netns, ...words: string[]): Promise<void> {
  const result = await run(['ip', ...words.flatMap((word) => word.split(' '))], { netns })
  expect(result, words.join(' ')).toMatchObject({ code: 0 })
}
