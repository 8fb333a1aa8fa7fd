import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a plain Debian machine has, that debootstrap's smallest variant has not. */
const packages = ['systemd', 'systemd-sysv', 'udev', 'dbus', 'kmod', 'iproute2', 'procps', 'ca-certificates']

/** Why no Debian can be made here; undefined when one can. */
export function debianObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  if (spawnSync('debootstrap', ['--version']).status !== 0) return 'needs debootstrap (Debian package debootstrap)'
  return undefined
}

/** A fresh Debian 12, made by debootstrap once and kept in $XDG_CACHE_HOME/fairlead/roots or ~/.cache/fairlead/roots. Throws. */
export function ensureDebian(environment: NodeJS.ProcessEnv): string {
  const cache = join(environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead', 'roots')
  const root = join(cache, 'bookworm')
  if (existsSync(root)) return root
  mkdirSync(cache, { recursive: true })
  const fresh = mkdtempSync(join(cache, '.new-'))
  const mirror = environment['DEBIAN_MIRROR'] ?? 'http://deb.debian.org/debian'
  const words = ['--variant=minbase', `--include=${packages.join(',')}`, 'bookworm', fresh, mirror]
  const { status, stdout } = spawnSync('debootstrap', words, { encoding: 'utf8' })
  if (status !== 0) {
    rmSync(fresh, { recursive: true })
    throw new Error(`debootstrap failed:\n${stdout.slice(-2000)}`)
  }
  renameSync(fresh, root)
  return root
}

/** A copy of a Debian that can be changed: an overlay, and a copy of the checkout at /checkout. Disposing removes it. */
export class DebianRoot implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'fairlead-root-'))
  readonly #setUp: string

  constructor(options: { readonly base: string; readonly checkout: string; readonly environment: NodeJS.ProcessEnv }) {
    const { base, checkout, environment } = options
    for (const name of ['upper', 'work', 'root', 'checkout']) mkdirSync(join(this.#folder, name))
    // As it is now, and as git clones it: without packages.
    const without = ['.git', 'node_modules', 'dist', 'bench/out'].map((name) => `--exclude=./${name}`)
    const copy = `tar -cf - ${without.join(' ')} . | tar -xf - -C ${this.#folder}/checkout`
    execFileSync('sh', ['-c', copy], { cwd: checkout })
    const authorities = environment['NODE_EXTRA_CA_CERTS']
    if (authorities !== undefined) copyFileSync(authorities, join(this.#folder, 'authorities'))
    // In a mount namespace that ends with the command: nothing is left mounted.
    this.#setUp = `set -e; F=${this.#folder}; R=$F/root
mount -t overlay -o lowerdir=${base},upperdir=$F/upper,workdir=$F/work overlay $R
for name in proc sys dev; do mount --rbind /$name $R/$name; done
mkdir -p $R/checkout; mount --bind $F/checkout $R/checkout
mount -t tmpfs tmpfs $R/run
if [ -e $F/authorities ]; then cp $F/authorities $R/run/authorities; fi
rm -f $R/etc/resolv.conf; cat /etc/resolv.conf >$R/etc/resolv.conf; echo debian >$R/etc/hostname
`
  }

  /** Runs a command in it, as root, with the host's network. */
  run(argv: readonly string[], environment: Readonly<Record<string, string>> = {}): Ran {
    const variables = {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      NODE_EXTRA_CA_CERTS: '/run/authorities',
      ...environment,
    }
    const set = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
    return this.#script(`exec chroot $R env -i ${set.map(quote).join(' ')} ${argv.map(quote).join(' ')}`)
  }

  /** Runs a command of the host with the folder of the root as its last word. */
  serve(argv: readonly string[], rest: readonly string[]): Ran {
    return this.#script(`umount -l $R/run $R/checkout $R/proc $R/sys $R/dev
exec ${argv.map(quote).join(' ')} "$R" ${rest.map(quote).join(' ')}`)
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true })
  }

  #script(script: string): Ran {
    const words = ['--mount', '--pid', '--fork', '--kill-child', '--', 'sh', '-c', this.#setUp + script]
    const { status, stdout, stderr } = spawnSync('unshare', words, { encoding: 'utf8', maxBuffer: 64 << 20 })
    return { code: status ?? 255, stdout, stderr }
  }
}

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
