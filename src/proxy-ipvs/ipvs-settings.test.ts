import { expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { SysctlError } from '../linux/sysctl.ts'
import { applySysctls, neededSysctls } from './ipvs-settings.ts'

test.each([
  ['4.19.0', 0],
  ['5.8.18', 0],
  ['5.9.0', 1],
  ['6.1.0-56-amd64', 1],
])('neededSysctls() of Linux %s: conn_reuse_mode %i', (release, expected) => {
  const found = neededSysctls(release, { strictARP: false })
  expect(found.find(({ name }) => name.endsWith('conn_reuse_mode'))?.value).toBe(expected)
  expect(neededSysctls(release, { strictARP: true }).length - found.length).toBe(2)
})

test('applySysctls() writes what is otherwise, says why, and names the option that the kernel lacks', () => {
  const lines: string[] = []
  const written: string[] = []
  const say = (_: object, text: string) => void lines.push(text)
  const log = { ...silentLog, info: say, warn: say }
  const parts = {
    kernelRelease: '4.19.0',
    readSysctl: (name: string) => (name.endsWith('.conntrack') ? '0' : '1'),
    writeSysctl: (name: string, value: number) => void written.push(`${name}=${value}`),
  }
  applySysctls(parts, { strictARP: false, log })
  expect(written).toEqual(['net.ipv4.vs.conntrack=1', 'net.ipv4.vs.conn_reuse_mode=0'])
  expect(lines).toEqual([
    'net.ipv4.vs.conntrack was 0, is 1 now: masquerade needs connection tracking of balanced connections',
    expect.stringContaining('net.ipv4.vs.conn_reuse_mode was 1, is 0 now: before Linux 5.9'),
    expect.stringContaining('stays with a real server that drains'),
  ])
  const readSysctl = (name: string) => {
    throw new SysctlError('read', name, Object.assign(new Error('no such file'), { code: 'ENOENT' }))
  }
  expect(() => applySysctls({ ...parts, readSysctl }, { strictARP: false, log })).toThrow('CONFIG_IP_VS_NFCT')
})
