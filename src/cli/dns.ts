import { Command } from 'commander'
import { dnsServeCommand } from './dns-serve.ts'

/** `fairlead dns`. */
export function dnsCommand(): Command {
  return new Command('dns').description('names: who answers what, and why').addCommand(dnsServeCommand())
}
