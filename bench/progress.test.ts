import { expect, test } from 'vitest'
import { Progress } from './progress.ts'

/** A progress with a clock of its own, in seconds, and what it said. */
function progressOf(totalSeconds: number): { progress: Progress; said: string[]; at: (seconds: number) => void } {
  let ms = 0
  const said: string[] = []
  const progress = new Progress(totalSeconds, { write: (text) => said.push(text), now: () => ms })
  return { progress, said, at: (seconds) => void (ms = seconds * 1000) }
}

test('Progress counts down what was expected when things go as expected', () => {
  const { progress, said, at } = progressOf(7200)
  progress.begin(100)
  progress.say('a')
  at(50)
  progress.say('a, half', 0.5)
  at(100)
  progress.begin(7100)
  progress.say('b')
  at(3650)
  progress.say('b, half', 0.5)
  at(7150)
  progress.say('b, nearly', 7050 / 7100)
  expect(said).toEqual([
    '[2.0 h left]   a',
    '[2.0 h left]   a, half',
    '[2.0 h left]   b',
    '[59 min left]  b, half',
    '[50 s left]    b, nearly',
  ])
})

test('Progress learns from what is done that a machine is slow', () => {
  const { progress, at } = progressOf(400)
  progress.begin(400)
  at(500)
  progress.say('a quarter', 0.25)
  // At this pace 1,500.
  expect(progress.secondsLeft()).toBeGreaterThan(1200)
  expect(progress.secondsLeft()).toBeLessThan(1500)
})

test('Progress says small steps every two seconds', () => {
  const { progress, said, at } = progressOf(10)
  progress.begin(10)
  for (let step = 0; step <= 100; step++) {
    at(step / 10)
    progress.step(`step ${step}`, step / 100)
  }
  expect(said.map((text) => text.slice(15))).toEqual(['step 0', 'step 20', 'step 40', 'step 60', 'step 80', 'step 100'])
  expect(said[3]).toBe('[4 s left]     step 60')
})
