import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { makeOutFolder } from './out-folder.ts'

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'out-folder-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

test('makeOutFolder makes a folder with all above it, and leaves nothing in it', () => {
  const folder = join(newFolder(), 'a', 'b')
  makeOutFolder(folder)
  makeOutFolder(folder)
  expect(existsSync(folder)).toBe(true)
  expect(readdirSync(folder)).toEqual([])
})

test('makeOutFolder says which folder cannot be written', () => {
  const file = join(newFolder(), 'file')
  writeFileSync(file, '')
  expect(() => makeOutFolder(file)).toThrow(`--out ${file}: cannot write there: EEXIST`)
  expect(() => makeOutFolder(join(file, 'below'))).toThrow(`--out ${file}/below: cannot write there`)
  // Node's own mkdir with `recursive` never returns from this one.
  expect(() => makeOutFolder('/proc/nowhere')).toThrow('--out /proc/nowhere: cannot write there: ENOENT')
  expect(() => makeOutFolder(' ')).toThrow('--out: expected a folder')
})
