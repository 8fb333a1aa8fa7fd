import { readlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { run } from './exec.ts'
import { hasCapability, probeMachine } from './features.ts'
import { createAnonymousNetns, createNetns, currentNetns, deleteNetns, listNetns, openNetns } from './netns.ts'
import { readSysctl, writeSysctl } from './sysctl.ts'

const here = (): string => readlinkSync('/proc/thread-self/ns/net')
const uniqueName = (): string => `fltest-${process.pid}-${Math.random().toString(36).slice(2, 8)}`

test('createNetns: the name is listed and opens the same namespace, until it is disposed', () => {
  const name = uniqueName()
  {
    using netns = createNetns(name)
    expect(listNetns()).toContain(name)
    using again = openNetns(name)
    expect(again.inode).toBe(netns.inode)
    expect(() => createNetns(name)).toThrow(expect.objectContaining({ code: 'EEXIST' }))
  }
  expect(listNetns()).not.toContain(name)
})

test('release: the name stays, and deleteNetns removes it, once or twice', () => {
  const name = uniqueName()
  {
    using netns = createNetns(name)
    netns.release()
  }
  expect(listNetns()).toContain(name)
  deleteNetns(name)
  deleteNetns(name)
  expect(listNetns()).not.toContain(name)
})

test('enter: runs in the namespace and comes back, also after an error', () => {
  const home = here()
  using netns = createAnonymousNetns()
  expect(netns.enter(() => here())).toBe(`net:[${netns.inode}]`)
  expect(() =>
    netns.enter(() => {
      throw new Error('from inside')
    }),
  ).toThrow('from inside')
  expect(here()).toBe(home)
})

test('createAnonymousNetns: has no name, is not this one, and its path opens it', () => {
  const before = listNetns()
  using netns = createAnonymousNetns()
  using current = currentNetns()
  using again = openNetns(netns.path)
  expect(listNetns()).toEqual(before)
  expect(netns.inode).not.toBe(current.inode)
  expect(again.inode).toBe(netns.inode)
})

test('openNetns: finds the namespace of a process', () => {
  using own = openNetns({ pid: process.pid })
  using current = currentNetns()
  expect(own.inode).toBe(current.inode)
})

test('run: the program is in the namespace', async () => {
  using netns = createAnonymousNetns()
  const { stdout } = await run(['readlink', '/proc/self/ns/net'], { netns })
  expect(stdout).toBe(`net:[${netns.inode}]\n`)
})

test('writeSysctl: sets it in the namespace and nowhere else', () => {
  using netns = createAnonymousNetns()
  using other = createAnonymousNetns()
  writeSysctl('net.ipv4.ip_forward', 1, { netns })
  writeSysctl('net.ipv4.ip_forward', 0, { netns: other })
  expect(readSysctl('net.ipv4.ip_forward', { netns })).toBe('1')
  expect(readSysctl('net.ipv4.ip_forward', { netns: other })).toBe('0')
  expect(() => writeSysctl('net.ipv4.ip_forward', 'maybe', { netns })).toThrow('the kernel refuses the value')
})

test('probeMachine: says for each feature what was found, and what to do when it is missing', () => {
  for (const feature of probeMachine()) {
    expect(feature.detail).not.toBe('')
    expect(feature.hint === undefined).toBe(feature.ok)
  }
  expect(hasCapability('CAP_NET_ADMIN')).toBe(true)
})
