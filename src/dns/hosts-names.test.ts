import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseName } from '../dns-message/name.ts'
import { printRecords } from '../dns-message/print-records.ts'
import { recordClasses } from '../dns-message/record-set.ts'
import { parseType } from '../dns-message/type-names.ts'
import { HostsNames, type HostsNamesOptions, parseHosts } from './hosts-names.ts'

const text = `
127.0.0.1  localhost            # this machine
192.0.2.7  nas.home Nas
192.0.2.8  nas.home
fd00::7    nas.home
192.0.2.9  *.apps.home
`

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})

function hosts(options: Partial<HostsNamesOptions> = {}): HostsNames {
  return new HostsNames({ entries: parseHosts(text).entries, log: silentLog, ...options })
}

function ask(stage: HostsNames, name: string, type = 'A'): string | undefined {
  const answer = stage.answer({ name: parseName(name), type: parseType(type), class: recordClasses.IN })
  return answer && `${answer.rcode} ${printRecords(answer.answer).join(', ')}`.trim()
}

describe('HostsNames', () => {
  test.each([
    ['nas.home', 'A', '0 nas.home. 3600 A 192.0.2.7, nas.home. 3600 A 192.0.2.8'],
    ['NAS.home', 'AAAA', '0 NAS.home. 3600 AAAA fd00::7'],
    ['nas', 'A', '0 nas. 3600 A 192.0.2.7'],
    ['nas', 'AAAA', '0'],
    ['nas', 'HTTPS', '0'],
    [
      '7.2.0.192.in-addr.arpa',
      'PTR',
      '0 7.2.0.192.in-addr.arpa. 3600 PTR nas.home., 7.2.0.192.in-addr.arpa. 3600 PTR Nas.',
    ],
    ['mail.apps.home', 'A', '0 mail.apps.home. 3600 A 192.0.2.9'],
    ['a.mail.apps.home', 'A', undefined],
    ['apps.home', 'A', undefined],
    ['9.2.0.192.in-addr.arpa', 'PTR', undefined],
    ['elsewhere.example', 'A', undefined],
  ])('HostsNames says of %s %s: %s', (name, type, expected) => {
    expect(ask(hosts(), name, type)).toBe(expected)
  })

  test('HostsNames denies unknown names of its zones when nobody else may know them', () => {
    const stage = hosts({ zones: [parseName('home')], passesOn: () => false, ttl: 60, reverse: false })
    expect(ask(stage, 'nas.home')).toBe('0 nas.home. 60 A 192.0.2.7, nas.home. 60 A 192.0.2.8')
    expect(ask(stage, 'other.home')).toBe('3')
    expect(ask(stage, 'nas')).toBeUndefined()
    expect(ask(stage, '7.2.0.192.in-addr.arpa', 'PTR')).toBeUndefined()
  })

  test('HostsNames follows its file, and keeps the configured entries when it is gone', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-hosts-'))
    folders.push(folder)
    const file = join(folder, 'hosts')
    writeFileSync(file, '192.0.2.50 printer.home\n')
    using stage = hosts({ file, interval: 20 })
    expect(ask(stage, 'printer.home')).toBe('0 printer.home. 3600 A 192.0.2.50')
    writeFileSync(file, '192.0.2.51 printer.home scanner.home\n')
    await vi.waitFor(() => expect(ask(stage, 'scanner.home')).toBe('0 scanner.home. 3600 A 192.0.2.51'))
    rmSync(file)
    await vi.waitFor(() => expect(ask(stage, 'scanner.home')).toBeUndefined())
    expect(ask(stage, 'nas')).toBe('0 nas. 3600 A 192.0.2.7')
  })
})

test('parseHosts() names the lines that it cannot use', () => {
  const { entries, problems } = parseHosts('10.0.0.1 ok\nnonsense x\n10.0.0.2\n')
  expect(entries).toHaveLength(1)
  expect(problems).toEqual([
    expect.stringMatching(/^line 2: "nonsense"/),
    'line 3: "10.0.0.2" has no name (expected ADDRESS NAME...)',
  ])
})
