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
