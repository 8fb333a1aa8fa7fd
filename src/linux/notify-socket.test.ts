import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bindSocket, receiveFrom, socket } from './libc.ts'
import { NotifySocket, unixAddress } from './notify-socket.ts'

/** A supervisor's end. */
function bindSupervisor(path: string): { receive(): string | undefined } & Disposable {
  const fd = socket(1, 2 | 0o4000, 0)
  bindSocket(fd, unixAddress(path))
  return {
    receive() {
      const bytes = Buffer.alloc(4096)
      const length = receiveFrom(fd, bytes, Buffer.alloc(128))
      return length === undefined ? undefined : bytes.toString('utf8', 0, length)
    },
    [Symbol.dispose]: () => closeSync(fd),
  }
}

describe('NotifySocket', () => {
  test.each(['path', 'abstract'])(
    'NotifySocket.send() sends one datagram to a socket with a name of kind %s',
    (kind) => {
      const folder = mkdtempSync(join(tmpdir(), 'fairlead-notify-'))
      try {
        const path = kind === 'path' ? join(folder, 'notify') : `@${folder}`
        using supervisor = bindSupervisor(path)
        using notify = NotifySocket.open(path)
        notify.send(['READY=1', 'STATUS=serving'])
        expect(supervisor.receive()).toBe('READY=1\nSTATUS=serving')
        expect(supervisor.receive()).toBeUndefined()
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
  )

  test('NotifySocket.send() says that nobody listens, and that a queue is full', () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairlead-notify-'))
    try {
      const path = join(folder, 'notify')
      using notify = NotifySocket.open(path)
      expect(() => notify.send(['READY=1'])).toThrow(/ENOENT/)
      using _supervisor = bindSupervisor(path)
      const fill = (): void => {
        for (let i = 0; i < 100_000; i++) notify.send(['WATCHDOG=1'])
      }
      expect(fill).toThrow(/EAGAIN|EWOULDBLOCK/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test.each(['run/notify', '', '@', `/${'x'.repeat(107)}`])('NotifySocket.open(%j) is refused', (path) => {
    expect(() => NotifySocket.open(path)).toThrow(RangeError)
  })
})
