import { SysctlError } from '../linux/sysctl.ts'
import type { NamespaceKernel } from './kernel.ts'
import type { SysctlPlan } from './plan.ts'

/** Writes those settings that differ, and returns them. Settings that this kernel does not have are passed over. Throws SysctlError. */
export function writeSysctls(sysctls: readonly SysctlPlan[], kernel: NamespaceKernel): SysctlPlan[] {
  return kernel.enter(() => {
    const changed: SysctlPlan[] = []
    for (const sysctl of sysctls) {
      const value = kernel.readSysctl(sysctl.path)
      if (value === undefined || value === sysctl.value) continue
      kernel.writeSysctl(sysctl.path, sysctl.value)
      changed.push(sysctl)
    }
    return changed
  })
}

/** Writes settings without a look at what they are: half the time, where most of them differ. Otherwise as {@link writeSysctls}. */
export function overwriteSysctls(sysctls: readonly SysctlPlan[], kernel: NamespaceKernel): void {
  kernel.enter(() => {
    for (const { path, value } of sysctls) {
      try {
        kernel.writeSysctl(path, value)
      } catch (error) {
        if (!(error instanceof SysctlError) || error.code !== 'ENOENT') throw error
      }
    }
  })
}
