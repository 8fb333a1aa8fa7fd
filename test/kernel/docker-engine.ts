import { spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { GenericContainer, Wait, type StartedTestContainer } from 'testcontainers'
import { sleep, type Machine } from './machine.ts'

/** Why no Docker can be run here; undefined when nothing is known to be missing. */
export function dockerObstacle(): string | undefined {
  for (const [program, packageName] of [
    ['dockerd', 'docker.io'],
    ['docker', 'docker.io'],
    ['iptables-save', 'iptables'],
    ['busybox', 'busybox-static'],
  ] as const) {
    if (spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
      return `needs ${program} (Debian package ${packageName})`
  }
  return undefined
}

/** dockerd is there, but cannot be run: a kernel without its features, for example. */
export class NoDockerError extends Error {
  override readonly name = 'NoDockerError'
}

const image = 'fairlead-test/busybox:1'

/** Where the process that runs the tests finds Docker: testcontainers asks once, so the path stays the same over all tests. */
const clientSettings = { TESTCONTAINERS_RYUK_DISABLED: 'true', TESTCONTAINERS_HOST_OVERRIDE: '192.0.2.2' }

/** A Docker engine of a machine's own: dockerd in its namespaces, with its data and its socket in the machine's folder. */
export class DockerEngine implements AsyncDisposable {
  readonly #machine: Machine
  readonly #socket: string
  #dockerd: ChildProcess | undefined
  #log = ''

  private constructor(machine: Machine, socket: string) {
    this.#machine = machine
    this.#socket = socket
  }

  /** Starts dockerd and makes an image of busybox alone. `socket` must be the same for all engines of a process. */
  static async start(machine: Machine, socket: string): Promise<DockerEngine> {
    Object.assign(process.env, clientSettings, { DOCKER_HOST: `unix://${socket}` })
    const engine = new DockerEngine(machine, socket)
    // The key that dockerd writes there stays in the machine.
    await machine.run('sh', '-c', 'mkdir -p /etc/docker && mount -t tmpfs none /etc/docker')
    await engine.restart()
    const root = join(machine.folder, 'image')
    mkdirSync(join(root, 'bin'), { recursive: true })
    const make = `cp "$(command -v busybox)" bin/busybox; for name in sh httpd nc; do ln -s busybox bin/$name; done; tar -c . | docker import - ${image}`
    const made = await machine.run('sh', '-ec', `cd ${root}; export DOCKER_HOST=unix://${socket}; ${make}`)
    if (made.code !== 0) throw new Error(`no image: ${made.stderr}`)
    return engine
  }

  /** Ends dockerd and starts it again; its containers go on meanwhile. */
  async restart(): Promise<void> {
    await this.stop()
    const { folder } = this.#machine
    const dns = ['--dns=10.96.0.10', '--dns-search=default.svc.cluster.local']
    const paths = [`--data-root=${folder}/docker`, `--exec-root=${folder}/exec`, `--pidfile=${folder}/dockerd.pid`]
    const config = this.#machine.write('docker.json', '{}')
    const dockerd = this.#machine.spawn(
      'dockerd',
      `--config-file=${config}`,
      `--host=unix://${this.#socket}`,
      ...paths,
      '--storage-driver=vfs',
      '--live-restore',
      ...dns,
    )
    this.#dockerd = dockerd
    dockerd.stderr?.on('data', (chunk: Buffer) => (this.#log += chunk.toString()))
    const ping = ['curl', '-sf', '--max-time', '5', '--unix-socket', this.#socket, 'http://docker/_ping']
    for (let tries = 0; (await this.#machine.run(...ping)).code !== 0; tries++) {
      if (dockerd.exitCode !== null || tries > 200) {
        throw new NoDockerError(`dockerd does not start here: ${this.#log.slice(-1000)}`)
      }
      await sleep(50)
    }
  }

  /** Ends dockerd; its containers and rules stay. */
  async stop(): Promise<void> {
    const dockerd = this.#dockerd
    if (!dockerd || dockerd.exitCode !== null || dockerd.signalCode !== null) return
    const exited = once(dockerd, 'exit')
    dockerd.kill('SIGTERM')
    // One that does not end is no fault of ours, and must not be taken for one.
    const killed = setTimeout(() => dockerd.kill('SIGKILL'), 20_000)
    await exited
    clearTimeout(killed)
  }

  /** `docker WORDS...`; exit code 124 when that takes half a minute. */
  docker(...words: readonly string[]): ReturnType<Machine['run']> {
    return this.#machine.run('timeout', '30', 'docker', `--host=unix://${this.#socket}`, ...words)
  }

  /** A container on docker0 that says "hello from docker" on its ports 8080, published on the node's 18080, and 8081. */
  async run(): Promise<StartedTestContainer> {
    const script = `mkdir /www; echo hello from docker >/www/index.html; httpd -p 8081 -h /www; echo ready; exec httpd -f -p 8080 -h /www`
    return await new GenericContainer(image)
      .withCommand(['/bin/sh', '-c', script])
      .withExposedPorts({ container: 8080, host: 18_080 })
      .withWaitStrategy(Wait.forLogMessage('ready'))
      .start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { stdout } = await this.docker('ps', '-aq')
    const containers = stdout.split('\n').filter(Boolean)
    // A container outlives whoever started it.
    if (containers.length > 0) await this.docker('rm', '-f', ...containers)
    await this.stop()
  }
}
