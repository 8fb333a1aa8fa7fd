import { decodeAttributes, encodeAttributes, type AttributeTable } from './attributes.ts'
import { isNetlinkError } from './netlink-error.ts'
import type { NetlinkSocket } from './netlink-socket.ts'

/** include/uapi/linux/netlink.h: the protocol that carries families without a number of their own. */
export const NETLINK_GENERIC = 16

/* include/uapi/linux/genetlink.h */
const GENL_ID_CTRL = 0x10
const CTRL_CMD_GETFAMILY = 3
const controlAttributes = {
  familyId: { id: 1, type: 'u16' },
  familyName: { id: 2, type: 'string' },
} as const satisfies AttributeTable

/** struct genlmsghdr: what stands before the attributes of each message. */
export function genericHeader(command: number, version: number): Buffer {
  return Buffer.from([command, version, 0, 0])
}

/** Length of struct genlmsghdr, bytes. */
export const genericHeaderLength = 4

/**
 * The number that a generic netlink family has on this kernel until the next boot; undefined when it is not there. The kernel
 * loads the module whose alias says that it brings the family. Throws NetlinkError.
 */
export async function findFamily(socket: Pick<NetlinkSocket, 'request'>, name: string): Promise<number | undefined> {
  const attributes = encodeAttributes(controlAttributes, { familyName: name })
  const payload = Buffer.concat([genericHeader(CTRL_CMD_GETFAMILY, 1), attributes])
  try {
    const [answer] = await socket.request({ name: `find family ${name}`, type: GENL_ID_CTRL, payload })
    return answer && decodeAttributes(controlAttributes, answer.payload.subarray(genericHeaderLength)).familyId
  } catch (error) {
    if (isNetlinkError(error, 'ENOENT')) return undefined
    throw error
  }
}
