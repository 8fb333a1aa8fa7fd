import { readFileSync } from 'node:fs'
import { Command } from 'commander'

/** The package's version. */
export function versionText(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

export function versionCommand(): Command {
  return new Command('version')
    .description('print versions')
    .option('--json', 'print as JSON')
    .action((options: { json?: boolean }) => {
      const versions = { fairlead: versionText(), node: process.versions.node }
      console.log(options.json ? JSON.stringify(versions) : `fairlead ${versions.fairlead} (Node ${versions.node})`)
    })
}
