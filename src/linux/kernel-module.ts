import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'

/**
 * Where this kernel has a module: `loaded` (or built in), `on disk`, from where the kernel loads it on demand, or undefined. Looks, and
 * loads nothing. `name` is as lsmod(8) says it: `ip_vs`.
 */
export function findKernelModule(
  name: string,
  { sys = '/sys/module', modules = '/lib/modules', kernel = release() } = {},
): 'loaded' | 'on disk' | undefined {
  if (existsSync(join(sys, name))) return 'loaded'
  const lists = (file: string): boolean => {
    const path = join(modules, kernel, file)
    if (!existsSync(path)) return false
    // `kernel/net/netfilter/ipvs/ip_vs.ko.xz: ...`; names of files may have dashes.
    const files = readFileSync(path, 'utf8').matchAll(/([^/\n]+)\.ko(?:\.\w+)?(?=:|$)/gm)
    return [...files].some(([, file = '']) => file.replaceAll('-', '_') === name)
  }
  if (lists('modules.builtin')) return 'loaded'
  return lists('modules.dep') ? 'on disk' : undefined
}
