import { expect, test } from 'vitest'
import { restartUnderLoad } from './dns-restart.ts'

test('createDnsServer() takes the place of another one under load, and no query is lost', async () => {
  const result = await restartUnderLoad({ port: 15_541, queries: 60_000, restarts: 3, signal: 'SIGTERM' })
  console.log(JSON.stringify(result))
  expect(result).toMatchObject({ asked: 60_000, lost: 0 })
}, 120_000)

test('createDnsServer() killed beside another one loses no more than what waited in its queue', async () => {
  const result = await restartUnderLoad({ port: 15_542, queries: 30_000, restarts: 3, signal: 'SIGKILL' })
  console.log(JSON.stringify(result))
  // 16 clients with 4 questions each wait at a time.
  expect(result.lost).toBeLessThanOrEqual(3 * 16 * 4)
}, 120_000)
