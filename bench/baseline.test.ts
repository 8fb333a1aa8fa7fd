import { expect, test } from 'vitest'
import { compareWork } from './baseline.ts'

const missingModes = ['ipvs']
const bytes = 'program | one endpoint: bytes | nftables | 500 Services'

test('compareWork finds work that grew, shrank, came and went', () => {
  const baseline = { [bytes]: 416, b: 5, c: 7 }
  expect(compareWork({ [bytes]: 417, b: 4, d: 1 }, baseline, { missingModes })).toEqual({
    grown: [{ id: bytes, from: 416, to: 417 }],
    shrunk: [{ id: 'b', from: 5, to: 4 }],
    unknown: ['d'],
    missing: ['c'],
  })
})

test('compareWork passes over modes that the machine does not have', () => {
  const baseline = { [bytes]: 416, 'program | one endpoint: bytes | ipvs | 500 Services': 100 }
  expect(compareWork({ [bytes]: 416 }, baseline, { missingModes })).toMatchObject({ grown: [], missing: [] })
})
