import { statSync, watch, type FSWatcher } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { Log } from '../base/log.ts'
import { folderStamp, isNotFound } from './list-files.ts'

/**
 * Watches a changing set of folders through inotify. Folders and not files, since editors and ConfigMap mounts replace
 * files by renaming, which a watch on a file does not survive.
 */
export class FolderWatches implements Disposable {
  readonly #onEvent: () => void
  readonly #log: Log
  readonly #watchers = new Map<string, { watcher: FSWatcher; stamp: string }>()
  #above: { folder: string; watcher: FSWatcher; stamp: string } | undefined
  #failed = false

  constructor(options: { onEvent: () => void; log: Log }) {
    this.#onEvent = options.onEvent
    this.#log = options.log
  }

  /** Watches exactly `folders` (path to stamp), and what comes and goes at `root` itself. */
  set(root: string, folders: ReadonlyMap<string, string>): void {
    for (const [path, { watcher, stamp }] of this.#watchers) {
      if (folders.get(path) === stamp) continue
      watcher.close()
      this.#watchers.delete(path)
    }
    for (const [path, stamp] of folders) {
      if (this.#watchers.has(path)) continue
      const watcher = this.#watch(path, (type, name) => {
        // The folder itself went; a new one may already stand in its place.
        if (type === 'rename' && name === basename(path)) this.#drop(path)
        this.#onEvent()
      })
      if (watcher) this.#watchers.set(path, { watcher, stamp })
    }
    this.#watchAbove(resolve(root))
  }

  [Symbol.dispose](): void {
    for (const { watcher } of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
    this.#above?.watcher.close()
    this.#above = undefined
  }

  /** Watches the nearest folder above `root` that exists, for the next name on the way to `root`. */
  #watchAbove(root: string): void {
    for (let below = root; below !== dirname(below); below = dirname(below)) {
      const folder = dirname(below)
      let stamp: string
      try {
        stamp = folderStamp(statSync(folder))
      } catch (error) {
        if (isNotFound(error)) continue
        this.#fail(folder, error)
        return
      }
      if (this.#above?.folder === folder && this.#above.stamp === stamp) return
      this.#above?.watcher.close()
      const name = basename(below)
      const watcher = this.#watch(folder, (_, changed) => {
        if (changed === name || changed === null) this.#onEvent()
      })
      this.#above = watcher ? { folder, watcher, stamp } : undefined
      return
    }
  }

  #watch(path: string, onEvent: (type: string, name: string | null) => void): FSWatcher | undefined {
    try {
      const watcher = watch(path, { persistent: false }, onEvent)
      watcher.on('error', (error) => {
        this.#fail(path, error)
        this.#drop(path)
      })
      return watcher
    } catch (error) {
      if (isNotFound(error)) this.#onEvent()
      else this.#fail(path, error)
      return undefined
    }
  }

  #drop(path: string): void {
    this.#watchers.get(path)?.watcher.close()
    this.#watchers.delete(path)
  }

  /** Said once: the cause is one limit (fs.inotify.max_user_watches), not one folder. */
  #fail(path: string, error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    this.#log.warn({ path, error }, 'cannot watch a folder: changes will be seen at the next regular look only')
  }
}
