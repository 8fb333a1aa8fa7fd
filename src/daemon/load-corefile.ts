import { globSync, readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Corefile } from '../dns-corefile/corefile.ts'
import { parseCorefile } from '../dns-corefile/parse-corefile.ts'

/** Reads a Corefile and what it imports; paths in it are relative to it. Throws CorefileError, and the error of a file that cannot be read. */
export function loadCorefile(
  file: string,
  env: Readonly<Record<string, string | undefined>>,
): Corefile & { readonly text: string } {
  const folder = dirname(resolve(file))
  const read: string[] = []
  const readText = (path: string) => {
    const text = readFileSync(path, 'utf8')
    read.push(text)
    return text
  }
  const corefile = parseCorefile(readText(file), {
    file,
    env,
    path: (text) => resolve(folder, text),
    importFiles: (pattern) =>
      globSync(resolve(folder, pattern))
        .toSorted()
        .filter((path) => statSync(path).isFile())
        .map((path) => ({ file: path, text: readText(path) })),
  })
  return { ...corefile, text: read.join('\0') }
}
