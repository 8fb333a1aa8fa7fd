import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { ApiServer } from './api-server.ts'
import { restoreBackup, verifyBackup } from './backup-file.ts'
import type { Target } from './kube-api.ts'
import { resourceTypeOf } from './resources.ts'
import { backupPath } from './serve-backup.ts'

const of = (name: string): Target => ({ type: resourceTypeOf('Service'), namespace: 'default', name, subresource: '' })
const options = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false } as const
const open = (file: string) =>
  ApiServer.open({
    file,
    claims: { serviceCIDRs: [parseCidr('10.96.0.0/24')] },
    clock: systemClock,
    log: silentLog,
    version: 'test',
  })
const create = (server: ApiServer, name: string) =>
  server.api.create(of(''), { metadata: { name }, spec: { ports: [{ port: 80 }] } }, { ...options, warnings: [] })
const names = ({ store }: ApiServer): string[] => store.list('services').map(({ metadata }) => metadata.name)

describe('a backup', () => {
  let folder: string
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'api-backup-'))))
  afterEach(() => rmSync(folder, { recursive: true }))

  test('is whole while writes go on, and takes the place of what is there', async () => {
    const file = join(folder, 'objects.db')
    const copy = join(folder, 'copy.db')
    let revision: number
    {
      using server = await open(file)
      await create(server, 'a')
      const writes = Array.from({ length: 50 }, (_, i) => create(server, `during-${i}`))
      const listener = server.createListener(() => 'admin')
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
      const response = await fetch(`http://127.0.0.1:${(listener.address() as AddressInfo).port}${backupPath}`)
      writeFileSync(copy, Buffer.from(await response.arrayBuffer()))
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
      await Promise.all(writes)
      const { objects } = verifyBackup(copy)
      expect(objects).toBeGreaterThanOrEqual(5)
      await create(server, 'after')
      revision = server.store.revision
      expect(() => restoreBackup(copy, file)).toThrow('is in use: stop the daemon first')
    }
    expect(readdirSync(folder).filter((name) => name.includes('.backup-'))).toEqual([])

    expect(restoreBackup(copy, file).revision).toBeGreaterThan(revision)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    using server = await open(file)
    expect(names(server)).toContain('a')
    expect(names(server)).not.toContain('after')
    // Whoever watched before lists again, although the revision is known.
    expect(server.store.eventsSince('services', revision)).toBeUndefined()
    // Addresses are those of the backup.
    const { object } = await create(server, 'new')
    const taken = server.store.list('services').map(({ spec }) => spec?.['clusterIP'])
    expect(new Set(taken).size).toBe(taken.length)
    expect(object.spec?.['clusterIP']).toMatch(/^10\.96\.0\./)
    using kept = await open(`${file}.before-restore`)
    expect(names(kept)).toContain('after')
  })

  test.each<[string, (file: string) => void, RegExp]>([
    ['is cut off', (file) => truncateSync(file, statSync(file).size - 4096), /damaged|no file of objects/],
    ['is something else', (file) => writeFileSync(file, 'kind: Service'), /no file of objects/],
    ['is not there', (file) => rmSync(file), /there is no such file/],
  ])('that %s is refused, and nothing is changed', async (_, spoil, reason) => {
    const file = join(folder, 'objects.db')
    const copy = join(folder, 'copy.db')
    {
      using server = await open(file)
      for (let i = 0; i < 20; i++) await create(server, `s-${i}`)
      await server.store.backup(copy)
      expect(verifyBackup(copy).objects).toBe(25)
      expect(readdirSync(folder).filter((name) => name.startsWith('copy'))).toEqual(['copy.db'])
    }
    spoil(copy)
    expect(() => restoreBackup(copy, file)).toThrow(reason)
    using server = await open(file)
    expect(names(server)).toHaveLength(20)
  })
})
