import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test, type TestContext } from 'vitest'
import { patience } from '../lab/patience.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fairlead-vagrant-'))
afterAll(() => rmSync(folder, { recursive: true }))

// Vagrant looks at a provider's settings only where it finds the provider. VirtualBox is no package of Debian: its settings are
// looked at with a VBoxManage that can do nothing but say its version.
writeFileSync(join(folder, 'VBoxManage'), '#!/bin/sh\necho 7.0.10r158379\n', { mode: 0o755 })

interface Ran {
  readonly code: number
  readonly output: string
}

function vagrant(words: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ran> {
  const env = {
    ...process.env,
    PATH: `${folder}:${process.env['PATH']}`,
    // Nothing is read from, or left in, the user's own folder and the checkout's .vagrant.
    VAGRANT_HOME: join(folder, 'home'),
    VAGRANT_DOTFILE_PATH: join(folder, 'state'),
    VAGRANT_CHECKPOINT_DISABLE: '1',
    ...environment,
  }
  return new Promise((resolve) => {
    execFile('vagrant', words, { cwd: root, env, timeout: patience(100_000) }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code ?? 255) : 0, output: stdout + stderr })
    })
  })
}

function obstacleOf(provider: string): string | undefined {
  if (spawnSync('vagrant', ['--version']).error) return 'vagrant is not there (Debian package vagrant-libvirt)'
  if (provider !== 'libvirt') return undefined
  const { status } = spawnSync('dpkg-query', ['-W', 'vagrant-libvirt'])
  return status === 0 ? undefined : 'vagrant has no libvirt provider (Debian package vagrant-libvirt)'
}

/** `npm test` counts skipped tests by their reason. */
function skip(context: TestContext, skipReason: string): void {
  Object.assign(context.task.meta, { skipReason })
  context.skip(skipReason)
}

describe('Vagrantfile', { timeout: patience(120_000) }, () => {
  test.for(['libvirt', 'virtualbox'])('Vagrantfile is valid for provider %s', async (provider, context) => {
    const obstacle = obstacleOf(provider)
    if (obstacle !== undefined) return skip(context, obstacle)
    expect(await vagrant(['validate'], { VAGRANT_DEFAULT_PROVIDER: provider })).toEqual({
      code: 0,
      output: 'Vagrantfile validated successfully.\n',
    })
  })

  test.for([
    ['FAIRLEAD_MEMORY', '1G', 'a whole number from 256 to 1048576'],
    ['FAIRLEAD_MODE', 'ebpf', 'nftables, iptables, ipvs or userspace'],
    ['FAIRLEAD_NETWORK', '192.168.56.0', 'three octets, like 192.168.56'],
    ['FAIRLEAD_POD_NETWORK', '10.256', 'two octets, like 10.244'],
  ] as const)('Vagrantfile refuses %s=%s before any machine starts', async ([name, value, expected], context) => {
    const obstacle = obstacleOf('virtualbox')
    if (obstacle !== undefined) return skip(context, obstacle)
    const environment = { VAGRANT_DEFAULT_PROVIDER: 'virtualbox', [name]: value }
    const output = `${name}=${value}: expected ${expected}\n`
    expect(await vagrant(['validate'], environment)).toEqual({ code: 1, output })
  })

  test('Vagrantfile has as many workers as it is told', async (context) => {
    const obstacle = obstacleOf('virtualbox')
    if (obstacle !== undefined) return skip(context, obstacle)
    const provider = { VAGRANT_DEFAULT_PROVIDER: 'virtualbox' }
    const three = await vagrant(['status', '--machine-readable'], { ...provider, FAIRLEAD_WORKERS: '3' })
    const names = [...three.output.matchAll(/^\d+,([^,]+),metadata,provider,virtualbox$/gm)].map(([, name]) => name)
    expect(names).toEqual(['control', 'worker-1', 'worker-2', 'worker-3'])
  })
})
