import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The path of a script in the same folder, whether this is run from source (.ts) or from what is installed (.js). */
export function scriptBeside(importMetaUrl: string, name: string): string {
  return fileURLToPath(new URL(`./${name}${extname(importMetaUrl)}`, importMetaUrl))
}
