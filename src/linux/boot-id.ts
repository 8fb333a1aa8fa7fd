import { readFileSync } from 'node:fs'

/** The kernel's random id of this boot. State that names another boot's id is about things that are gone. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
