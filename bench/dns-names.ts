import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from './random.ts'

/** What is asked: names of Services, names that do not exist, or what pods ask with `ndots:5` for names of both kinds. */
export const questionKinds = ['service names', 'missing names', 'search paths'] as const
export type QuestionKind = (typeof questionKinds)[number]

const questionsPerFile = 20_000
/** Services, spread over all of them, of which the first answer is timed. */
const mostFirst = 1000
const zone = 'cluster.local'

/** A cluster IP for Service `index`, `bench/svc-INDEX`. */
export function clusterIpOf(index: number): string {
  return `10.${100 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`
}

/** Writes a file of questions for dnsperf for each kind, one with the name of each Service, and one with some of them; returns their paths. */
export function writeQuestions(
  folder: string,
  { services, random }: { readonly services: number; readonly random: Random },
): Readonly<Record<QuestionKind | 'all' | 'some', string>> {
  mkdirSync(folder, { recursive: true })
  const any = (): number => random.below(services)
  const lines: Readonly<Record<QuestionKind, () => readonly string[]>> = {
    'service names': () => [`svc-${any()}.bench.svc.${zone} A`],
    'missing names': () => [`missing-${any()}.bench.svc.${zone} A`],
    'search paths': () =>
      ['A', 'AAAA'].flatMap((type) => [
        `www-${any()}.example.com.bench.svc.${zone} ${type}`,
        `www-${any()}.example.com.svc.${zone} ${type}`,
        `www-${any()}.example.com.${zone} ${type}`,
        `svc-${any()}.bench.bench.svc.${zone} ${type}`,
        `svc-${any()}.bench.svc.${zone} ${type}`,
      ]),
  }
  const paths = questionKinds.map((kind) => {
    const path = join(folder, `${kind.replace(' ', '-')}.txt`)
    const text: string[] = []
    while (text.length < questionsPerFile) text.push(...lines[kind]())
    writeFileSync(path, `${text.join('\n')}\n`)
    return [kind, path] as const
  })
  const all = join(folder, 'all.txt')
  writeFileSync(all, Array.from({ length: services }, (_, i) => `svc-${i}.bench.svc.${zone} A\n`).join(''))
  const some = join(folder, 'some.txt')
  const step = Math.ceil(services / mostFirst)
  const first = Array.from({ length: Math.floor(services / step) }, (_, i) => `svc-${i * step}.bench.svc.${zone} A\n`)
  writeFileSync(some, first.join(''))
  return { ...(Object.fromEntries(paths) as Record<QuestionKind, string>), all, some }
}

/** The same names as a static zone. */
export function writeZone(path: string, services: number): void {
  const head = [
    `$ORIGIN ${zone}.`,
    '$TTL 5',
    '@ SOA ns.dns hostmaster 1 7200 1800 86400 5',
    '@ NS ns.dns',
    'ns.dns A 10.96.0.10',
  ]
  const names = Array.from({ length: services }, (_, i) => `svc-${i}.bench.svc A ${clusterIpOf(i)}`)
  writeFileSync(path, `${[...head, ...names].join('\n')}\n`)
}
