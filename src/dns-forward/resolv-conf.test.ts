import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseResolvConf, ResolvConf } from './resolv-conf.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'resolv-conf-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const open = (files: Record<string, string>, own: readonly string[] = []) => {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  return new ResolvConf({
    path: join(folder, 'resolv.conf'),
    resolvedPath: join(folder, 'resolved.conf'),
    exclude: (ip) => own.includes(ip),
    log: silentLog,
    interval: 10,
  })
}

test('parseResolvConf() takes nameserver lines and tells which it cannot use', () => {
  const text =
    '# c\nsearch a\nnameserver 10.0.0.1\nnameserver\t2001:DB8::1 \n nameserver 1.1.1.1\nnameserver fe80::1%eth0\nnameserver 10.0.0.1'
  expect(parseResolvConf(text)).toEqual({ servers: ['10.0.0.1', '2001:db8::1'], skipped: ['fe80::1%eth0'] })
})

describe('ResolvConf', () => {
  for (const [what, files, own, expected] of [
    [
      'the servers of the file',
      { 'resolv.conf': 'nameserver 10.0.0.1\nnameserver 10.0.0.2' },
      [],
      ['10.0.0.1', '10.0.0.2'],
    ],
    ['not ourselves', { 'resolv.conf': 'nameserver 10.96.0.10\nnameserver 10.0.0.2' }, ['10.96.0.10'], ['10.0.0.2']],
    [
      'what is behind the stub',
      { 'resolv.conf': 'nameserver 127.0.0.53', 'resolved.conf': 'nameserver 10.0.0.3' },
      [],
      ['10.0.0.3'],
    ],
    ['the stub when nothing is known behind it', { 'resolv.conf': 'nameserver 127.0.0.53' }, [], ['127.0.0.53']],
    ['nothing without a file', {}, [], []],
  ] as const)
    test(`reads ${what}`, () => {
      using conf = open(files, own)
      expect(conf.servers).toEqual(expected)
    })

  test('follows a file that is replaced, and keeps the last list while it is missing', async () => {
    using conf = open({ 'resolv.conf': 'nameserver 10.0.0.1', next: 'nameserver 10.0.0.9' })
    rmSync(join(folder, 'resolv.conf'))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(conf.servers).toEqual(['10.0.0.1'])
    renameSync(join(folder, 'next'), join(folder, 'resolv.conf'))
    await vi.waitFor(() => expect(conf.servers).toEqual(['10.0.0.9']))
  })
})
