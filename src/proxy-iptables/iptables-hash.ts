import type { IpFamily } from '../net/ip-address.ts'

/* linux/bpf_common.h: classic BPF */
const ldAbsoluteWord = 0x20
const aluMultiply = 0x24
const aluShiftRight = 0x74
const aluXorX = 0xac
const aluModulo = 0x94
const jumpEqual = 0x15
const moveToX = 0x07
const returnConstant = 0x06

/** Where the source address stands in the header, word by word (RFC 791, RFC 8200). */
const sourceWords = { 4: [12], 6: [8, 12, 16, 20] } as const satisfies Record<IpFamily, readonly number[]>

/** Odd numbers that mix well (the finisher of MurmurHash3). */
const mixers = [0x85eb_ca6b, 0xc2b2_ae35] as const

/** xt_bpf takes 64 instructions; hashing an IPv6 address takes 21 of them, and the two answers 2. */
const maxSlotsInRule = 40

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, constant: number]

/**
 * Matches of clients whose address falls into one of `slots` of a table of `size`: one match for each 40 slots. iptables has
 * no hash to compare with, but it can run a classic BPF program over the packet. Not nftables mode's hash, which would not fit.
 */
export function clientHashMatches(slots: readonly number[], table: { size: number; family: IpFamily }): string[] {
  const matches: string[] = []
  for (let start = 0; start < slots.length; start += maxSlotsInRule) {
    matches.push(match(program(slots.slice(start, start + maxSlotsInRule), table)))
  }
  return matches
}

/** What the programs of {@link clientHashMatches} compute: for tests and for explaining. */
export function clientHashSlot(source: Uint8Array, size: number): number {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength)
  let a = 0
  for (let at = 0; at < source.length; at += 4) a = Math.imul((a ^ view.getUint32(at)) >>> 0, mixers[0])
  a = Math.imul((a ^ ((a >>> 0) >>> 15)) >>> 0, mixers[1])
  return ((a ^ ((a >>> 0) >>> 13)) >>> 0) % size
}

function program(slots: readonly number[], { size, family }: { size: number; family: IpFamily }): Instruction[] {
  const hash = sourceWords[family].flatMap((offset, i): Instruction[] => [
    ...(i === 0 ? [] : [[moveToX, 0, 0, 0] as const]),
    [ldAbsoluteWord, 0, 0, offset],
    ...(i === 0 ? [] : [[aluXorX, 0, 0, 0] as const]),
    [aluMultiply, 0, 0, mixers[0]],
  ])
  return [
    ...hash,
    ...xorShifted(15),
    [aluMultiply, 0, 0, mixers[1]],
    ...xorShifted(13),
    [aluModulo, 0, 0, size],
    ...slots.map((slot, i): Instruction => [jumpEqual, slots.length - i, 0, slot]),
    [returnConstant, 0, 0, 0],
    [returnConstant, 0, 0, 0xffff],
  ]
}

/** A ^= A >> bits */
function xorShifted(bits: number): readonly Instruction[] {
  return [
    [moveToX, 0, 0, 0],
    [aluShiftRight, 0, 0, bits],
    [aluXorX, 0, 0, 0],
  ]
}

function match(program: readonly Instruction[]): string {
  return `-m bpf --bytecode "${program.length},${program.map((instruction) => instruction.join(' ')).join(',')}"`
}
