import { expect, test } from 'vitest'
import { createLogger } from './logger.ts'

function lines(format: 'text' | 'json', level: 'debug' | 'info' = 'info') {
  const written: string[] = []
  return { written, log: createLogger({ level, format }, { write: (line) => written.push(line) }) }
}

test('createLogger() writes one JSON object a line, fields and message', () => {
  const { written, log } = lines('json')
  log.info({ service: 'default/web', elements: 3 }, 'services synced')
  expect(JSON.parse(written[0] ?? '')).toMatchObject({
    level: 'info',
    service: 'default/web',
    elements: 3,
    msg: 'services synced',
  })
})

test('createLogger() in text form writes time, level, message, fields and the error', () => {
  const { written, log } = lines('text')
  log.child({ part: 'dns' }).warn({ name: 'a b', err: new Error('no route') }, 'cannot forward')
  expect(written[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} warn {2}cannot forward {2}part=dns name="a b" error="no route"\n$/)
})

test('createLogger() leaves out what is below the level', () => {
  const { written, log } = lines('json')
  log.debug({}, 'detail')
  expect(written).toEqual([])
})
