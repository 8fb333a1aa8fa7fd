import { createHash } from 'node:crypto'
import { cidrFamily, parseNetwork, type Cidr } from '../net/cidr.ts'
import { ipFromBytes, type IpFamily } from '../net/ip-address.ts'
import type { TakenRanges } from './taken-ranges.ts'

/**
 * Where IPv4 subnets are picked from, in this order: 2,720 subnets of /20. A /20 has four times the addresses that a bridge
 * has ports, so that an address rests for a while before it is used again. Docker begins at 172.17.0.0/16 and
 * 192.168.0.0/20, Kubernetes Services at 10.96.0.0/12: these come last, or never.
 */
const pools = ['172.29.0.0/16', '172.28.0.0/16', '172.24.0.0/14', '172.20.0.0/14', '10.128.0.0/9', '10.32.0.0/11'].map(
  (text) => parseNetwork(text),
)
const pickedPrefix = 20

/** How many IPv6 subnet ids are tried. Only a foreign route inside our own random /48 could ever be in the way. */
const maxUlaAttempts = 256

/** What a picked subnet depends on. */
export interface PickContext {
  readonly network: string
  readonly machineId: string
  readonly taken: TakenRanges
  /** Picked before: kept as long as it is free. */
  readonly previous: readonly Cidr[]
}

/** A subnet that overlaps nothing that is taken; undefined when all are. The same input gives the same subnet. */
export function pickSubnet(family: IpFamily, context: PickContext): Cidr | undefined {
  const isFree = (cidr: Cidr): boolean => context.taken.find(cidr) === undefined
  const previous = context.previous.find((cidr) => cidrFamily(cidr) === family)
  if (previous && isFree(previous)) return previous
  if (family === 6) return Iterator.from(ulaCandidates(context)).find(isFree)
  return Iterator.from(pools)
    .map((pool) => context.taken.firstFree(pool, pickedPrefix))
    .find((cidr) => cidr !== undefined)
}

/**
 * RFC 4193: fd, a global id of 40 bits that is this machine's own, a subnet id of 16 bits that is the network's own. The
 * RFC asks for a random global id; a hash of the machine's id is as unlikely to meet another's, and needs no memory.
 */
function* ulaCandidates({ machineId, network }: PickContext): Generator<Cidr> {
  const globalId = createHash('sha256').update(`fairlead ula ${machineId}`).digest()
  const subnetId = createHash('sha256').update(`fairlead network ${network}`).digest().readUInt16BE(0)
  for (let attempt = 0; attempt < maxUlaAttempts; attempt++) {
    const bytes = Buffer.alloc(16)
    bytes[0] = 0xfd
    globalId.copy(bytes, 1, 0, 5)
    bytes.writeUInt16BE((subnetId + attempt) & 0xffff, 6)
    yield { address: ipFromBytes(bytes), prefix: 64 }
  }
}
