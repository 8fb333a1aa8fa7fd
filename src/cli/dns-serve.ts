import { Command } from 'commander'
import type { LogLevel } from '../daemon/config.ts'
import { createLogger } from '../daemon/logger.ts'
import { serveCorefile, ServeError } from '../daemon/serve-corefile.ts'
import { stopped, stopSignal } from './foreground.ts'
import { UsageError } from './usage-error.ts'
import { versionText } from './version.ts'

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** `fairlead dns serve`: CoreDNS's place, taken with its own file. */
export function dnsServeCommand(): Command {
  return new Command('serve')
    .description("serve a Corefile in CoreDNS's place, and nothing else")
    .requiredOption('--corefile <file>', 'the Corefile, as CoreDNS has it')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .option('--log-format <format>', 'json or text', 'json')
    .addHelpText('after', serveHelp)
    .action(async (options: { corefile: string; logLevel: string; logFormat: string }) => {
      const level = levels.find((level) => level === options.logLevel)
      const format = (['json', 'text'] as const).find((format) => format === options.logFormat)
      if (!level)
        throw new UsageError(`--log-level ${options.logLevel}: expected ${levels.join(', ')}`, { exitCode: 2 })
      if (!format) throw new UsageError(`--log-format ${options.logFormat}: expected json or text`, { exitCode: 2 })
      const log = createLogger({ level, format })
      const stop = stopSignal(['SIGINT', 'SIGTERM'])
      const service = await start(options.corefile, log)
      const reload = () => void service.reload()
      for (const signal of ['SIGUSR1', 'SIGHUP'] as const) process.on(signal, reload)
      await stopped(stop)
      await service.close()
    })
}

async function start(file: string, log: ReturnType<typeof createLogger>) {
  try {
    return await serveCorefile({ file, env: process.env, version: versionText(), log })
  } catch (error) {
    if (error instanceof ServeError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

const serveHelp = `
Needs no configuration, no state folder and no bridge; the objects come from the API server of the block "kubernetes" (its kubeconfig,
or the cluster that this is a pod of). Plugins: errors health ready prometheus log reload bind kubernetes k8s_external forward cache
hosts rewrite(name) acl any autopath(@kubernetes) loop loadbalance bufsize; others are refused with the line that names them.
"docs/dns.md" has the table.

SIGTERM and SIGINT end it after health's lameduck time; SIGUSR1 and SIGHUP read the file again, and so does the plugin reload.

  fairlead dns serve --corefile /etc/coredns/Corefile
  fairlead dns serve --corefile Corefile --log-format text`
