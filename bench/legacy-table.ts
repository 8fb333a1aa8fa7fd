import { closeSync } from 'node:fs'
import { getSocketStruct, socket } from '../src/linux/libc.ts'
import type { Netns } from '../src/linux/netns.ts'

/* include/uapi/linux/netfilter_ipv4/ip_tables.h */
const IPT_SO_GET_INFO = 64
/** struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
const infoLength = 32 + 4 + 20 + 20 + 4 + 4
const [AF_INET, SOCK_RAW, IPPROTO_RAW, SOL_IP] = [2, 3, 255, 0]

/**
 * The bytes of the IPv4 nat table of legacy iptables. The kernel takes a whole table or nothing (IPT_SO_SET_REPLACE), so this is what
 * iptables-restore reads and writes for each change, however short the text that it was given.
 */
export function legacyTableBytes(netns: Netns): number {
  return netns.enter(() => {
    const fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW)
    try {
      const info = Buffer.alloc(infoLength)
      info.write('nat')
      if (!getSocketStruct(fd, SOL_IP, IPT_SO_GET_INFO, info))
        throw new Error('the kernel does not say how large its nat table is')
      return info.readUInt32LE(infoLength - 4)
    } finally {
      closeSync(fd)
    }
  })
}
