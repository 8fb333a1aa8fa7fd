import { expect, test } from 'vitest'
import { readBootId } from './boot-id.ts'
import { errnoName } from './errno.ts'
import { readSysctl, SysctlError, writeSysctl } from './sysctl.ts'

test.each(['net.ipv4.conf.lo.forwarding', 'net/ipv4/conf/lo/forwarding'])('readSysctl: reads %s', (name) => {
  expect(readSysctl(name)).toMatch(/^[01]$/)
})

test('readSysctl: a name that the kernel does not have is a SysctlError that says so', () => {
  expect(() => readSysctl('net.ipv4.no_such')).toThrow(SysctlError)
  expect(() => readSysctl('net.ipv4.no_such')).toThrow(
    'cannot read sysctl net.ipv4.no_such: this kernel or namespace has no such setting',
  )
})

test('writeSysctl: never creates a file', () => {
  expect(() => writeSysctl('net.ipv4.no_such', 1)).toThrow(SysctlError)
})

test.each(['../../etc/passwd', 'net/../kernel/hostname', 'net..ipv4', ''])(
  'readSysctl: refuses the name "%s"',
  (name) => {
    expect(() => readSysctl(name)).toThrow(RangeError)
  },
)

test('readBootId: is a UUID, and the same each time', () => {
  expect(readBootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  expect(readBootId()).toBe(readBootId())
})

test.each([
  [17, 'EEXIST'],
  [54, 'EXFULL'],
  [85, 'ERESTART'],
  [9999, 'errno 9999'],
])('errnoName: %i is %s', (errno, name) => {
  expect(errnoName(errno)).toBe(name)
})
