import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Command } from 'commander'
import { BackupError, restoreBackup, verifyBackup } from '../api/backup-file.ts'
import { backupPath } from '../api/serve-backup.ts'
import { apiSocketOption, openApi } from './api-client.ts'
import { ControlError } from './control-client.ts'
import { UsageError } from './usage-error.ts'

/** `fairlead api backup`. */
export function backupCommand(): Command {
  return new Command('backup')
    .description(
      'copy all objects of the embedded API into a file, while the daemon goes on, and look whether the copy is whole',
    )
    .argument('<file>', 'an SQLite file; one that is there is replaced')
    .addOption(apiSocketOption())
    .action(async (file: string, { apiSocket }: { apiSocket: string }) => {
      const response = await openApi({ socket: apiSocket, method: 'GET', path: backupPath })
      if (response.statusCode !== 200) throw new ControlError(`the API answered ${response.statusCode} to a backup`)
      const temporary = `${file}.new`
      try {
        await pipeline(response, createWriteStream(temporary, { mode: 0o600, flush: true }))
        const { objects, revision } = explained(() => verifyBackup(temporary))
        await rename(temporary, file)
        console.log(`${file}: ${objects} objects, revision ${revision}`)
      } catch (error) {
        await rm(temporary, { force: true })
        const { code } = error as NodeJS.ErrnoException
        throw typeof code === 'string' ? new UsageError(`cannot write ${file}: ${code}`, { cause: error }) : error
      }
    })
}

/** `fairlead api restore`. */
export function restoreCommand(): Command {
  return new Command('restore')
    .description(
      'put a backup in the place of the objects of a daemon that is stopped; what was there is kept beside it',
    )
    .argument('<file>', 'what "fairlead api backup" wrote')
    .option('--state-dir <path>', 'stateDir of the daemon', '/var/lib/fairlead')
    .action((file: string, { stateDir }: { stateDir: string }) => {
      const target = join(stateDir, 'api', 'objects.db')
      const { objects, revision } = explained(() => restoreBackup(file, target))
      console.log(`${target}: ${objects} objects, revision ${revision}; start the daemon`)
    })
}

function explained<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof BackupError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}
