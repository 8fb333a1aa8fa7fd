import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { ModeRecord } from './mode-record.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'fairlead-mode-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return path
}

test('ModeRecord remembers the modes, two while one takes over, and knows nothing at first or of words that are no modes', () => {
  const file = join(folder(), 'state', 'services-mode')
  const record = new ModeRecord(file, { log: silentLog })
  expect(record.read()).toEqual([])
  record.write(['iptables'])
  expect(new ModeRecord(file, { log: silentLog }).read()).toEqual(['iptables'])
  record.write(['userspace', 'nftables', 'nftables'])
  expect(record.read()).toEqual(['nftables', 'userspace'])
  writeFileSync(file, 'ebtables\n')
  expect(record.read()).toEqual([])
})

test('ModeRecord.write() warns where nothing can be written', () => {
  const path = folder()
  writeFileSync(join(path, 'state'), '')
  const warnings: string[] = []
  const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) }
  new ModeRecord(join(path, 'state', 'services-mode'), { log }).write(['nftables'])
  expect(warnings).toEqual(['the mode in the kernel cannot be remembered'])
})
