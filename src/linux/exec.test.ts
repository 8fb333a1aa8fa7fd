import { describe, expect, test } from 'vitest'
import { run, RunError } from './exec.ts'

describe('run', () => {
  test.each([
    { what: 'output', argv: ['printf', '%s', 'a b'], expected: { code: 0, stdout: 'a b', stderr: '' } },
    {
      what: 'error output and exit code',
      argv: ['sh', '-c', 'echo no >&2; exit 3'],
      expected: { code: 3, stderr: 'no\n' },
    },
    {
      what: 'words with shell characters as they are',
      argv: ['printf', '%s', '$(id); *'],
      expected: { stdout: '$(id); *' },
    },
    {
      what: 'the signal that ended it',
      argv: ['sh', '-c', 'kill -TERM $$'],
      expected: { code: null, signal: 'SIGTERM' },
    },
  ])('run: gives $what', async ({ argv, expected }) => {
    expect(await run(argv)).toMatchObject(expected)
  })

  test('run: hands over input and environment', async () => {
    const argv = ['/bin/sh', '-c', 'cat; printf %s "$GREETING"']
    expect(await run(argv, { input: 'in, ', env: { PATH: '/bin:/usr/bin', GREETING: 'hello' } })).toMatchObject({
      stdout: 'in, hello',
    })
  })

  test('run: a program that does not read its input is no failure', async () => {
    expect(await run(['true'], { input: 'x'.repeat(1 << 20) })).toMatchObject({ code: 0 })
  })

  test('run: takes input in pieces, as the program reads them', async () => {
    let made = 0
    const pieces = function* () {
      for (; made < 1000; made++) yield Buffer.alloc(65_536, 'x')
    }
    expect((await run(['wc', '-c'], { input: pieces() })).stdout.trim()).toBe(String(65_536_000))
    made = 0
    expect(await run(['head', '-c', '1'], { input: pieces() })).toMatchObject({ code: 0, stdout: 'x' })
    expect(made).toBeLessThan(1000)
  })

  test('run: a piece that cannot be made ends the program and fails', async () => {
    const pieces = function* (): Generator<Uint8Array> {
      yield Buffer.from('x')
      throw new Error('no more')
    }
    await expect(run(['sleep', '30'], { input: pieces() })).rejects.toThrow('cannot run sleep 30: no more')
  })

  test('run: a program that does not exist is a RunError ENOENT that names it', async () => {
    const error: unknown = await run(['no-such-program', 'x']).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(RunError)
    expect(error).toMatchObject({ code: 'ENOENT', message: 'cannot run no-such-program x: no such program' })
  })

  test('run: over its timeout, it is killed and fails', async () => {
    const start = performance.now()
    await expect(run(['sleep', '30'], { timeout: 50 })).rejects.toMatchObject({ code: 'ETIMEDOUT' })
    expect(performance.now() - start).toBeLessThan(5000)
  })

  test.each([
    { when: 'before', ms: 0 },
    { when: 'while it runs', ms: 30 },
  ])('run: aborted $when, it fails', async ({ ms }) => {
    const controller = new AbortController()
    if (ms === 0) controller.abort()
    else setTimeout(() => controller.abort(), ms)
    await expect(run(['sleep', '30'], { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORT_ERR' })
  })
})
