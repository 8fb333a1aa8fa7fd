import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mount, MS_BIND } from './libc.ts'
import { MountNamespace } from './mount-namespace.ts'

test('MountNamespace.enter() mounts where another process is, again and again, and comes home', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-mounts-'))
  const other = spawn('unshare', ['--mount', '--', 'sh', '-c', 'echo there; exec sleep 60'])
  try {
    await once(other.stdout, 'data')
    using namespace = MountNamespace.open(other.pid!)!
    for (const name of ['first', 'second']) {
      const path = join(folder, name)
      mkdirSync(path)
      namespace.enter(() => mount(path, path, MS_BIND))
      expect(readFileSync(`/proc/${other.pid}/mountinfo`, 'utf8')).toContain(` ${path} `)
      expect(readFileSync('/proc/thread-self/mountinfo', 'utf8')).not.toContain(` ${path} `)
      // Threads are made in between, which share the root and working directory of this one.
      await Promise.all(Array.from({ length: 8 }, () => import('node:fs/promises').then((fs) => fs.stat(folder))))
    }
    const fail = (): void => namespace.enter(() => mount('/nowhere', folder, MS_BIND))
    expect(fail).toThrow(/ENOENT/)
    expect(MountNamespace.open(process.pid)).toBeUndefined()
  } finally {
    other.kill('SIGKILL')
    await once(other, 'exit')
    rmSync(folder, { recursive: true })
  }
})
