import { open, rm } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'

/** Where an administrator gets a copy of everything, as an SQLite file. */
export const backupPath = '/fairlead/backup'

/** Writes a copy while the server goes on, and sends it. `backup` makes it and returns its path. */
export async function serveBackup(response: ServerResponse, backup: () => Promise<string>): Promise<void> {
  const file = await backup()
  await using handle = await open(file)
  // Nobody else needs its name, and so it is gone whatever happens.
  await rm(file)
  const { size } = await handle.stat()
  response.writeHead(200, { 'content-type': 'application/vnd.sqlite3', 'content-length': String(size) })
  await pipeline(handle.createReadStream({ autoClose: false }), response)
}
