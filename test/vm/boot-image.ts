import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Kernel } from './kernel-package.ts'

/** All that stands between the kernel and a root on 9p: the rest is loaded on demand, as on a real machine. */
const needed = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay']

/**
 * Makes the initramfs in `folder` and returns its path: busybox, the modules for the root, and init.sh. It takes some
 * ten milliseconds, so it is made for each boot and never stale.
 */
export function makeBootImage(kernel: Kernel, folder: string): string {
  const tree = join(folder, 'initramfs')
  for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'host', 'top', 'new']) {
    mkdirSync(join(tree, name), { recursive: true })
  }
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim()
  copyFileSync(busybox, join(tree, 'bin', 'busybox'))
  copyFileSync(fileURLToPath(new URL('init.sh', import.meta.url)), join(tree, 'init'))
  const files = loadOrder(readFileSync(join(kernel.modules, 'modules.dep'), 'utf8'), needed)
  for (const file of files) copyFileSync(join(kernel.modules, file), join(tree, 'modules', basename(file)))
  writeFileSync(join(tree, 'modules', 'order'), files.map((file) => `${basename(file)}\n`).join(''))
  const image = join(folder, 'initramfs.cpio')
  execFileSync('sh', ['-c', 'chmod 755 init bin/busybox; find . | busybox cpio -o -H newc >"$0" 2>/dev/null', image], {
    cwd: tree,
  })
  return image
}

/** The files (as in modules.dep) that load these modules, each after what it depends on. Built-in modules have none. */
export function loadOrder(dependencies: string, names: readonly string[]): string[] {
  const entries = new Map<string, string[]>()
  for (const line of dependencies.split('\n')) {
    const [file, rest] = line.split(':')
    if (file && rest !== undefined) entries.set(moduleName(file), [file, ...rest.trim().split(/\s+/).filter(Boolean)])
  }
  // modules.dep lists the nearest dependency first, so the whole list is loaded from its end.
  return [...new Set(names.flatMap((name) => entries.get(name)?.toReversed() ?? []))]
}

function moduleName(file: string): string {
  return basename(file, '.ko').replaceAll('-', '_')
}
