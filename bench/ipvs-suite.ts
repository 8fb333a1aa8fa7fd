import { spawnSync } from 'node:child_process'
import { openIpvs } from '../src/ipvs/open-client.ts'
import { measureIpvs, type IpvsRound } from './ipvs-restore.ts'
import { median } from './statistics.ts'
import type { FigureKey } from './series.ts'
import type { Suite } from './suite.ts'

/** At most so much of what ipvsadm takes. */
const claimedShare = 0.8

/** What it costs to bring Services to IPVS. */
export const ipvsSuite: Suite = {
  name: 'ipvs',
  measures:
    'virtual and real servers, and their addresses, programmed by us and by ipvsadm --restore: time and system calls',
  why: 'kube-proxy in IPVS mode takes minutes for what ipvsadm does in seconds, since it runs a program for each address.',
  byDefault: false,
  heeds: ['services', 'endpoints', 'rounds'],
  estimate: ({ services, rounds }) => services.reduce((sum, n) => sum + n * 0.0006, 0) * Math.min(rounds, 5),
  async missing() {
    const lines: string[] = []
    if (spawnSync('ipvsadm', ['--version']).error) lines.push('ipvsadm (Debian package ipvsadm)')
    using ipvs = openIpvs()
    await ipvs.info().catch((error: unknown) => lines.push(String(error)))
    return lines
  },
  async run({ options, recorder, progress, signal }) {
    for (const services of options.services.filter((n) => n > 0)) {
      const rounds: IpvsRound[] = []
      for (let round = 0; round < Math.min(options.rounds, 5); round++) {
        signal.throwIfAborted()
        progress.say(`ipvs: ${services} Services, round ${round + 1}`, round / Math.min(options.rounds, 5))
        rounds.push(await measureIpvs({ services, endpointsEach: options.endpoints }))
      }
      const base = { services, endpoints: options.endpoints, unit: 'ms', kind: 'time', better: 'less' } as const
      const times: Record<string, keyof IpvsRound> = {
        'ipvsadm --restore': 'ipvsadmMs',
        'virtual servers and addresses': 'clientMs',
        'whole sync': 'syncMs',
        'sync of one endpoint': 'changeMs',
      }
      for (const [figure, field] of Object.entries(times)) {
        recorder.addAll(
          { ...base, figure },
          rounds.map((one) => one[field]),
        )
      }
      const count = (figure: string): FigureKey => ({ ...base, figure, unit: '', kind: 'count' })
      const [first] = rounds
      if (!first) continue
      recorder.add(count('commands'), first.commands)
      recorder.add(count('datagrams'), first.messages)
      recorder.add(count('changes for one endpoint'), first.changed)
      const calls = (200 * first.messages) / first.commands
      recorder.claim(`at most 2 system calls per 100 commands, ${services} Services`, calls <= 2, calls.toFixed(2))
      const share = median(rounds.map(({ clientMs, ipvsadmMs }) => clientMs / ipvsadmMs))
      recorder.claim(
        `at most ${claimedShare} of ipvsadm --restore, addresses included, ${services} Services`,
        share <= claimedShare,
        share.toFixed(2),
      )
      const middle = (field: keyof IpvsRound): string => `${Math.round(median(rounds.map((one) => one[field])))} ms`
      recorder.print(
        `${services} Services x ${options.endpoints}: ipvsadm --restore ${middle('ipvsadmMs')}, servers and addresses ${middle('clientMs')} ` +
          `(${share.toFixed(2)}), whole sync ${middle('syncMs')}, one endpoint ${middle('changeMs')}, ${first.changed} changes`,
      )
    }
  },
}
