import { describe, expect, test } from 'vitest'
import { splitDocuments } from './split-documents.ts'

/** Each document as `line text`. */
const split = (stream: string) => splitDocuments(stream).map(({ text, line }) => `${line} ${text}`)

describe('splitDocuments()', () => {
  test.each<[string, string[]]>([
    ['', []],
    ['# only a comment\n---\n\n', []],
    ['a: 1', ['1 a: 1']],
    ['---\na: 1\n---\nb: 2\n', ['2 a: 1\n', '4 b: 2\n']],
    ['--- # first\na: 1\n', ['2 a: 1\n']],
    ['a: 1\n---\n# nothing\n---\nb: 2', ['1 a: 1\n', '5 b: 2']],
    ['--- {a: 1}\n--- {b: 2}\n', ['1 --- {a: 1}\n', '2 --- {b: 2}\n']],
    ['a: 1\n...\n# between\n---\nb: 2\n', ['1 a: 1\n', '5 b: 2\n']],
    ['%YAML 1.2\n---\na: 1\n', ['1 %YAML 1.2\n---\na: 1\n']],
    ['a: |\n  ---\n  text\n', ['1 a: |\n  ---\n  text\n']],
    ['a: ----\n', ['1 a: ----\n']],
    ['---\r\na: 1\r\n---\r\nb: 2\r\n', ['2 a: 1\r\n', '4 b: 2\r\n']],
    ['\uFEFFa: 1', ['1 a: 1']],
  ])('%j', (stream, expected) => {
    expect(split(stream)).toEqual(expected)
  })
})
