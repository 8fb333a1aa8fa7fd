import { systemClock } from '../base/clock.ts'
import type { Config } from './config.ts'
import type { KubeProxyServers } from './kube-proxy-servers.ts'
import { ConfigFollower, type ConfigSource, keysForRestart } from './reload.ts'
import type { ServiceProxy } from './service-proxy.ts'
import type { Context } from './start-context.ts'
import { applyKubeProxy } from './start-servers.ts'

/** Takes over what can change while the daemon runs; the rest waits for its next start, and is named. */
export function followConfig(
  source: ConfigSource,
  running: { context: Context; proxy: ServiceProxy | undefined; kubeProxy: KubeProxyServers | undefined },
): ConfigFollower {
  const { context, proxy, kubeProxy } = running
  const log = context.log.child({ part: 'config' })
  let before = context.config
  const apply = async (after: Config): Promise<readonly string[]> => {
    if (proxy && before.services && after.services) {
      // A mode that was set by command stays, unless it is the mode that changed in the file.
      const mode = after.services.mode === before.services.mode ? proxy.config.mode : after.services.mode
      await proxy.configure({ ...after.services, mode })
    }
    if (kubeProxy && after.kubeProxy) {
      await kubeProxy.configure(after.kubeProxy)
      applyKubeProxy(after.kubeProxy, log, before.kubeProxy)
    }
    const later = keysForRestart(before, after)
    before = after
    context.events.add('daemon', `took over ${source.file}`)
    log.info({ file: source.file }, 'took over the changed configuration')
    if (later.length > 0)
      log.warn({ keys: later }, `of the changed configuration, ${later.join(', ')} waits for the next start`)
    return keysForRestart(context.config, after)
  }
  return context.stack.use(new ConfigFollower(source, { clock: systemClock, log, apply }))
}
