import { readdirSync, realpathSync, statSync, type Stats } from 'node:fs'
import { dirname, join } from 'node:path'

/** What tells one version of a file from the next without reading it. */
export interface FileStamp {
  readonly modified: number
  readonly size: number
  readonly inode: number
}

/** The manifest files below a path, and the folders in which a change would show. */
export interface FileListing {
  /** By path, in order. */
  readonly files: ReadonlyMap<string, FileStamp>
  /** Folders to watch, each with something that tells it from a later folder of the same name. */
  readonly folders: ReadonlyMap<string, string>
  /** What could not be listed. */
  readonly failures: readonly { readonly path: string; readonly error: Error }[]
}

const manifestName = /^[^.].*\.(yaml|yml|json)$/

/**
 * Lists `root` itself, when it is a file, or the `.yaml`, `.yml` and `.json` files below it. Hidden names are left out, so
 * that the `..data` folders of a Kubernetes ConfigMap mount count once, through their links. Synchronous calls, since a
 * stat takes microseconds where a promise for one takes ten times that; pauses after each folder entry. Undefined when
 * `root` is not there.
 */
export function* listFiles(root: string): Generator<void, FileListing | undefined> {
  const files: [string, FileStamp][] = []
  const folders = new Map<string, string>()
  const failures: { path: string; error: Error }[] = []
  const attempt = <T>(path: string, call: () => T): T | undefined => {
    try {
      return call()
    } catch (error) {
      if (!(error instanceof Error)) throw error
      // Gone between two calls, or a link to nowhere: not there, then.
      if (!isNotFound(error)) failures.push({ path, error })
      return undefined
    }
  }
  const addFile = (path: string, stats: Stats, viaLink: boolean) => {
    files.push([path, { modified: stats.mtimeMs, size: stats.size, inode: stats.ino }])
    if (!viaLink) return
    // A file behind a link changes in its own folder.
    const home = attempt(path, () => dirname(realpathSync(path)))
    const homeStats = home === undefined ? undefined : attempt(home, () => statSync(home))
    if (home !== undefined && homeStats) folders.set(home, folderStamp(homeStats))
  }

  const rootStats = attempt(root, () => statSync(root))
  if (!rootStats) return failures.length === 0 ? undefined : { files: new Map(), folders, failures }
  if (!rootStats.isDirectory()) {
    addFile(root, rootStats, true)
    return { files: new Map(files), folders, failures }
  }
  const open: { path: string; stats: Stats; above: readonly string[] }[] = [{ path: root, stats: rootStats, above: [] }]
  for (let folder = open.pop(); folder; folder = open.pop()) {
    const { path, stats, above } = folder
    folders.set(path, folderStamp(stats))
    const here = [...above, `${stats.dev}:${stats.ino}`]
    for (const entry of attempt(path, () => readdirSync(path, { withFileTypes: true })) ?? []) {
      if (entry.name.startsWith('.')) continue
      if (!entry.isDirectory() && !entry.isSymbolicLink() && !manifestName.test(entry.name)) continue
      const child = join(path, entry.name)
      const childStats = attempt(child, () => statSync(child))
      if (childStats?.isDirectory()) {
        // A link to a folder above would never end.
        if (!here.includes(`${childStats.dev}:${childStats.ino}`))
          open.push({ path: child, stats: childStats, above: here })
      } else if (childStats && manifestName.test(entry.name)) addFile(child, childStats, entry.isSymbolicLink())
      yield
    }
  }
  files.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return { files: new Map(files), folders, failures }
}

/** Whether an error of node:fs says that nothing is there. */
export function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}

/** Inode numbers are used again at once on some file systems; the birth time tells such folders apart. */
export function folderStamp(stats: Stats): string {
  return `${stats.dev}:${stats.ino}:${stats.birthtimeMs}`
}
