/**
 * Runs a classic BPF program (linux/filter.h) as iptables writes it, `N,CODE JT JF K,...`, over a packet from its IP header
 * on, and gives what it returns. Knows the instructions that hash addresses are made of. Throws Error at others.
 */
export function runSocketFilter(bytecode: string, packet: Uint8Array): number {
  const [, ...instructions] = bytecode.replaceAll('"', '').split(',')
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  let a = 0
  let x = 0
  for (let at = 0; at < instructions.length; at++) {
    const [code = 0, jumpTrue = 0, jumpFalse = 0, k = 0] = (instructions[at] ?? '').split(' ').map(Number)
    switch (code) {
      case 0x20: // ld [k]
        a = view.getUint32(k)
        break
      case 0x24: // mul #k
        a = Math.imul(a, k) >>> 0
        break
      case 0x74: // rsh #k
        a = a >>> k
        break
      case 0xac: // xor x
        a = (a ^ x) >>> 0
        break
      case 0x94: // mod #k
        a %= k
        break
      case 0x07: // tax
        x = a
        break
      case 0x15: // jeq #k
        at += a === k ? jumpTrue : jumpFalse
        break
      case 0x06: // ret #k
        return k
      default:
        throw new Error(`instruction ${code} of a socket filter cannot be run`)
    }
  }
  throw new Error('a socket filter ended without an answer')
}
