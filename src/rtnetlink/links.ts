import { isNetlinkError } from '../netlink/netlink-error.ts'
import { decodeLinkCounters, type CountedLink } from './link-counters.ts'
import { decodeLink, RTM_NEWLINK, type Link } from './link.ts'
import {
  createBridge,
  createVeth,
  deleteLink,
  deleteLinkGroup,
  getLink,
  listLinks,
  setLink,
  type CreateBridge,
  type CreateVeth,
  type LinkChanges,
  type LinkRef,
} from './link-requests.ts'
import type { NetlinkMessage } from '../netlink/message.ts'
import type { NetlinkRequest, NetlinkSocket } from '../netlink/netlink-socket.ts'
import { runAll } from '../netlink/run-all.ts'

/** Network interfaces of one namespace. Throws NetlinkError, whose `request` names the link. */
export class Links {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async list(filter: { master?: number; kind?: string } = {}): Promise<Link[]> {
    const messages = await this.#socket.dump(listLinks(filter))
    const links = messages.filter((message) => message.type === RTM_NEWLINK).map(({ payload }) => decodeLink(payload))
    // The kernel filters too; kernels before 4.20 do not.
    return links.filter(
      ({ master, kind }) =>
        (filter.master === undefined || master === filter.master) &&
        (filter.kind === undefined || kind === filter.kind),
    )
  }

  /** All links with their counters. */
  async listCounted(): Promise<CountedLink[]> {
    const messages = await this.#socket.dump(listLinks({ counters: true }))
    return messages
      .filter((message) => message.type === RTM_NEWLINK)
      .map(({ payload }) => ({ ...decodeLink(payload), counters: decodeLinkCounters(payload) }))
  }

  /** Throws NetlinkError ENODEV when there is none. */
  async get(link: LinkRef): Promise<Link> {
    return oneLink(await this.#socket.request(getLink(link)), link)
  }

  /** Undefined when there is none. */
  async find(link: LinkRef): Promise<Link | undefined> {
    try {
      return await this.get(link)
    } catch (error) {
      if (isNetlinkError(error, 'ENODEV')) return undefined
      throw error
    }
  }

  /** Creates the bridge and reads it back, in one round trip. Throws NetlinkError EEXIST when the name is taken. */
  async createBridge(bridge: CreateBridge): Promise<Link> {
    return await this.#create(createBridge(bridge), bridge.name, aliasOf(bridge))
  }

  /** Creates the pair and reads this side back, in one round trip. */
  async createVeth(veth: CreateVeth): Promise<Link> {
    return await this.#create(createVeth(veth), veth.name, { ...veth.port, ...aliasOf(veth) })
  }

  async set(link: LinkRef, changes: LinkChanges): Promise<void> {
    const renamesByName = changes.name !== undefined && typeof link === 'string'
    const ref = renamesByName ? (await this.get(link)).index : link
    await this.#socket.request(setLink(ref, changes))
  }

  /**
   * Deletes a link. The kernel notifies (Rtnetlink's `watchLinks`) within a millisecond, and acknowledges only when no packet can
   * use the link's memory any more (rcu_barrier() in netdev_run_todo(): about 16 ms): another thread waits for that.
   */
  async delete(link: LinkRef): Promise<void> {
    await this.#socket.request(deleteLink(link), { apart: true })
  }

  /** Deletes all links of a group at once. A group without links is no error. */
  async deleteGroup(group: number): Promise<void> {
    try {
      await this.#socket.request(deleteLinkGroup(group), { apart: true })
    } catch (error) {
      if (!isNetlinkError(error, 'ENODEV')) throw error
    }
  }

  /** Creates, then changes by index: if the name is another link's, that one is not touched. */
  async #create(request: NetlinkRequest, name: string, afterwards: LinkChanges): Promise<Link> {
    const [created, got] = await this.#socket.pipeline([request, getLink(name)])
    if (created instanceof Error) throw created
    if (!got || got instanceof Error) throw got ?? new Error(`${request.name}: no answer`)
    const link = oneLink(got, name)
    if (Object.keys(afterwards).length === 0) return link
    try {
      const answers = await runAll(this.#socket, [setLink(link.index, afterwards), getLink(link.index)])
      return oneLink(answers.at(-1) ?? [], name)
    } catch (error) {
      await this.delete(link.index)
      throw error
    }
  }
}

function aliasOf({ alias }: { readonly alias?: string }): { alias?: string } {
  return alias === undefined ? {} : { alias }
}

function oneLink(messages: readonly NetlinkMessage[], link: LinkRef): Link {
  const message = messages.find(({ type }) => type === RTM_NEWLINK)
  if (!message) throw new Error(`get link ${link}: the kernel answered without a link`)
  return decodeLink(message.payload)
}
