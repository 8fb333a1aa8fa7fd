import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'

const inGuest = process.env['FAIRLEAD_GUEST'] !== undefined

function fairlead(...words: string[]): { code: number | null; output: string } {
  const { status, signal, stdout, stderr } = spawnSync('bin/fairlead', words, { encoding: 'utf8' })
  return { code: status, output: `${stdout}${stderr}${signal === null ? '' : `ended by ${signal}`}` }
}

describe.skipIf(!inGuest)(
  'a stock kernel that loads its modules on demand (in the guest only: npm run test:vm)',
  () => {
    test('fairlead doctor misses nothing', () => {
      const { code, output } = fairlead('doctor')
      expect(output).not.toContain('MISSING')
      expect(code).toBe(0)
    })

    test('fairlead hello --check reaches everything in every way', { timeout: patience(60_000) }, () => {
      const { code, output } = fairlead('hello', '--check')
      expect(output).not.toContain('NOT OK')
      expect(output).toContain('check passed')
      expect(code).toBe(0)
    })
  },
)
