import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** A kernel that is unpacked, not installed: nothing of the machine's own boot changes. */
export interface Kernel {
  /** As `uname -r` says in the guest, like `6.1.0-56-amd64`. */
  readonly release: string
  /** Path of the bootable image. */
  readonly image: string
  /** The folder that is /lib/modules/RELEASE in the guest. */
  readonly modules: string
}

/** Debian's metapackage; what it depends on is the kernel. The "cloud" flavour has no 9p, which carries our root. */
const metapackage = 'linux-image-amd64'

/** What no network test needs; without it the cache takes a fifth of the room. */
const leftOut = ['sound', 'drivers/gpu', 'drivers/media', 'drivers/infiniband', 'drivers/scsi', 'drivers/staging']

/** Where downloads are kept: $XDG_CACHE_HOME/fairlead, or ~/.cache/fairlead. */
export function cacheFolder(environment: NodeJS.ProcessEnv): string {
  return join(environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead', 'kernels')
}

/**
 * The newest kernel in the cache, downloaded by `apt-get download` when there is none. Throws with what to do when it
 * cannot be had.
 */
export function ensureKernel(cache: string, say: (text: string) => void): Kernel {
  return newestKernel(cache) ?? downloadKernel(cache, say)
}

function newestKernel(cache: string): Kernel | undefined {
  if (!existsSync(cache)) return undefined
  const releases = readdirSync(cache).filter((name) => !name.startsWith('.'))
  const release = releases.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))[0]
  return release === undefined ? undefined : kernelIn(join(cache, release), release)
}

function kernelIn(folder: string, release: string): Kernel {
  return {
    release,
    image: join(folder, 'boot', `vmlinuz-${release}`),
    modules: join(folder, 'lib', 'modules', release),
  }
}

function downloadKernel(cache: string, say: (text: string) => void): Kernel {
  const dependencies = execFileSync('apt-cache', ['depends', metapackage], { encoding: 'utf8' })
  const release = /Depends: linux-image-([\w.+-]+)/.exec(dependencies)?.[1]
  if (release === undefined) throw new Error(`apt knows no ${metapackage}: run 'apt-get update' as root`)
  say(`Downloading Debian's kernel ${release} to ${cache} (unpacked there, not installed) ...`)
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, '.unpack-'))
  try {
    execFileSync('apt-get', ['download', '-qq', `linux-image-${release}`], { cwd: folder, stdio: 'pipe' })
    const deb = readdirSync(folder).find((name) => name.endsWith('.deb'))
    if (deb === undefined) throw new Error(`apt-get download linux-image-${release} gave no package`)
    execFileSync('dpkg-deb', ['-x', deb, '.'], { cwd: folder })
    rmSync(join(folder, deb))
    const kernel = kernelIn(folder, release)
    for (const name of leftOut) rmSync(join(kernel.modules, 'kernel', name), { recursive: true, force: true })
    // Debian does this when the package is installed: without it modprobe finds nothing.
    execFileSync('depmod', ['-b', folder, release])
    renameSync(folder, join(cache, release))
    return kernelIn(join(cache, release), release)
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}
