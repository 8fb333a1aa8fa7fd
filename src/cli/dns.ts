import { Command } from 'commander'
import { dnsExplainCommand } from './dns-explain.ts'
import { dnsQueryCommand } from './dns-query.ts'
import { dnsServeCommand } from './dns-serve.ts'
import { dnsLogCommand, dnsTopCommand } from './dns-top.ts'

/** `fairlead dns`. */
export function dnsCommand(): Command {
  return new Command('dns')
    .description("names: who answers what and why, who asks most; or CoreDNS's place with its own file")
    .addCommand(dnsQueryCommand())
    .addCommand(dnsExplainCommand())
    .addCommand(dnsTopCommand())
    .addCommand(dnsLogCommand())
    .addCommand(dnsServeCommand())
}
