import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { ConfigError, defaultConfig, loadConfig, type Config, type LogLevel } from '../daemon/config.ts'
import { inClusterKubernetes, type KubernetesConfig } from '../daemon/kubernetes-config.ts'
import { startForeground, stopped, stopSignal } from './foreground.ts'
import { UsageError } from './usage-error.ts'

const defaultConfigFile = '/etc/fairlead/fairlead.yaml'

/** The flags of `fairlead run`. */
export interface RunOptions {
  readonly config?: string
  readonly files?: readonly string[]
  readonly manifests?: readonly string[]
  readonly kubeconfig?: string
  readonly nodeName?: string
  readonly hostnameOverride?: string
  readonly stateDir?: string
  readonly socket?: string
  readonly logLevel?: string
  readonly logFormat?: string
  readonly cleanupOnExit?: boolean
}

/** `fairlead run`: the daemon, in the foreground. */
export function runCommand(): Command {
  return new Command('run')
    .description('run the daemon in the foreground')
    .option(
      '-c, --config <file>',
      `the configuration file, or a KubeProxyConfiguration (default: ${defaultConfigFile} if it exists)`,
    )
    .option('-f, --files <path...>', 'files or folders of manifests, instead of sources.files')
    .option(
      '--manifests <path...>',
      'the same as --files; the objects of a KubeProxyConfiguration then come from there, not from its API server',
    )
    .option('--kubeconfig <file>', 'the API server to follow, instead of sources.kubernetes')
    .option('--node-name <name>', 'instead of nodeName')
    .option('--hostname-override <name>', "the same as --node-name, by the name of kube-proxy's flag")
    .option('--state-dir <path>', 'instead of stateDir')
    .option('--socket <path>', 'instead of controlSocket')
    .option('--log-level <level>', 'debug, info, warn or error')
    .option('--log-format <format>', 'json or text')
    .option('--cleanup-on-exit', 'remove everything from the kernel at exit')
    .addHelpText(
      'after',
      `
With a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as FILE the daemon is a kube-proxy and nothing else: no
network, no DNS, kube-proxy's ports. The objects come from the API server of clientConnection.kubeconfig; without one from the
cluster that this is a pod of; or from --manifests instead.

SIGTERM and SIGINT stop the daemon and leave the dataplane working; with --cleanup-on-exit they remove it.

Examples:
  fairlead run --files manifests/ --log-format text
  fairlead run --config /etc/fairlead/fairlead.yaml
  fairlead run --kubeconfig ~/.kube/config --log-format text
  fairlead run --config /var/lib/kube-proxy/config.conf`,
    )
    .action(async (options: RunOptions) => {
      const config = readConfig(options)
      const stop = stopSignal()
      const file = configFile(options)
      const source = file === undefined ? undefined : { file, load: () => readConfig(options) }
      const daemon = await startForeground(config, source)
      await stopped(stop)
      await daemon.close({ cleanup: config.cleanupOnExit })
    })
}

/** The file's configuration with the flags over it. Throws {@link UsageError}. */
export function readConfig(options: RunOptions): Config {
  const file = configFile(options)
  try {
    const config = file === undefined ? defaultConfig() : loadConfig(file)
    const files = filesOf(options)
    const nodeName = options.nodeName ?? options.hostnameOverride
    return {
      ...config,
      ...readSources(config, { files, kubeconfig: options.kubeconfig, file }),
      // Who names an API server to follow wants no second one, unless he says so.
      ...(options.kubeconfig !== undefined && config.api?.byDefault === true && { api: undefined }),
      ...(nodeName !== undefined && { nodeName }),
      ...(options.stateDir !== undefined && { stateDir: pathFlag('--state-dir', options.stateDir) }),
      ...(options.socket !== undefined && { controlSocket: pathFlag('--socket', options.socket) }),
      log: {
        level:
          oneOf('--log-level', options.logLevel, ['debug', 'info', 'warn', 'error'] satisfies LogLevel[]) ??
          config.log.level,
        format: oneOf('--log-format', options.logFormat, ['text', 'json'] as const) ?? config.log.format,
      },
      cleanupOnExit: options.cleanupOnExit ?? config.cleanupOnExit,
    }
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(error.message, { exitCode: 2, cause: error })
    throw error
  }
}

/** Where the objects come from: the file says it, and flags say it instead. */
function readSources(
  config: Config,
  given: {
    readonly files: readonly string[]
    readonly kubeconfig: string | undefined
    readonly file: string | undefined
  },
): Pick<Config, 'sources' | 'kubeProxy'> {
  const { kubeProxy, sources } = config
  const kubernetes: KubernetesConfig | undefined =
    given.kubeconfig === undefined
      ? sources.kubernetes
      : {
          location: { kind: 'kubeconfig', path: pathFlag('--kubeconfig', given.kubeconfig) },
          view: kubeProxy ? 'proxy' : 'all',
        }
  if (!kubeProxy)
    return { sources: { ...sources, files: given.files.length > 0 ? given.files : sources.files, kubernetes } }
  if (given.files.length === 0) {
    const followed = kubernetes ?? inClusterKubernetes(process.env)
    if (followed) return { kubeProxy, sources: { files: [], kubernetes: followed } }
    throw new ConfigError(
      `${given.file}: clientConnection.kubeconfig is missing, and this is no pod of a cluster (or give the objects with --manifests FOLDER)`,
    )
  }
  const note = 'clientConnection.kubeconfig has no effect: objects come from --manifests, not from the Kubernetes API'
  const notes = sources.kubernetes && given.kubeconfig === undefined ? [...kubeProxy.notes, note] : kubeProxy.notes
  return {
    kubeProxy: { ...kubeProxy, notes },
    sources: { files: given.files, kubernetes: given.kubeconfig === undefined ? undefined : kubernetes },
  }
}

function configFile({ config }: RunOptions): string | undefined {
  if (config !== undefined) return resolve(config)
  return existsSync(defaultConfigFile) ? defaultConfigFile : undefined
}

function filesOf({ files = [], manifests = [] }: RunOptions): readonly string[] {
  return [...files.map((path) => pathFlag('--files', path)), ...manifests.map((path) => pathFlag('--manifests', path))]
}

/** An empty path is an unset variable of a script, and would mean the current folder. */
function pathFlag(flag: string, value: string): string {
  if (value.trim() === '') throw new UsageError(`${flag} is empty (expected a path)`, { exitCode: 2 })
  return resolve(value)
}

function oneOf<Word extends string>(flag: string, value: string | undefined, words: readonly Word[]): Word | undefined {
  if (value === undefined) return undefined
  const word = words.find((word) => word === value)
  if (word === undefined) throw new UsageError(`${flag} ${value}: expected ${words.join(', ')}`, { exitCode: 2 })
  return word
}
