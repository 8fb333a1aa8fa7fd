import type { Log } from '../base/log.ts'
import { writeSysctls } from './apply.ts'
import type { BridgeKernel } from './kernel.ts'
import type { SysctlPlan } from './plan.ts'

/** Matches what {@link planHost} asks for IPv6. */
const ipv6Forwarding = 'net/ipv6/conf/all/forwarding'

/**
 * Makes the host a router, if it is none. They stay when fairlead goes: other programs may count on them by then.
 *
 * A host that forwards IPv6 stops listening to router advertisements where accept_ra is 1 (Documentation/networking/
 * ip-sysctl.rst), and so may lose its own default route; where it listened, accept_ra becomes 2, which means "also when
 * forwarding". Throws SysctlError.
 */
export async function enableForwarding(
  sysctls: readonly SysctlPlan[],
  context: { readonly kernel: BridgeKernel; readonly log: Log },
): Promise<void> {
  const { kernel, log } = context
  if (sysctls.some(({ path }) => path === ipv6Forwarding) && kernel.readSysctl(ipv6Forwarding) === '0') {
    const links = await kernel.rtnetlink.links.list()
    const paths = ['default', ...links.map(({ name }) => name)].map((name) => `net/ipv6/conf/${name}/accept_ra`)
    for (const path of paths.filter((path) => kernel.readSysctl(path) === '1')) kernel.writeSysctl(path, '2')
  }
  for (const { path, value } of writeSysctls(sysctls, kernel)) {
    log.info({ sysctl: path, value }, `Set ${path} to ${value}: pods reach the outside through this host`)
  }
}
