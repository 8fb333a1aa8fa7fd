import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, normalize } from 'node:path'
import { load } from 'js-yaml'
import { describe, expect, test } from 'vitest'
import { knownKeys, parseConfig } from '../../src/daemon/config.ts'

/** The house of docs/architecture.md: what each folder of src may import besides itself. */
const values = ['base', 'net']
const wire = ['linux', 'netlink', 'rtnetlink']
const kernel = ['nftables', 'iptables', 'ipvs', 'dhcp', 'relay']
const modes = ['proxy-nftables', 'proxy-iptables', 'proxy-ipvs', 'proxy-userspace']
const domain = ['sources', 'api', 'proxy', ...modes, 'dns-forward', 'dns', 'dns-corefile', 'bridge', 'nodes']
const belowDomain = [
  ...values,
  'model',
  ...wire,
  ...kernel,
  'kubernetes',
  'docker',
  'probes',
  'dns-message',
  'dns-workers',
]
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  net: ['base'],
  model: values,
  linux: values,
  netlink: [...values, 'linux'],
  rtnetlink: [...values, 'linux', 'netlink'],
  nftables: [...values, ...wire],
  iptables: [...values, ...wire],
  ipvs: [...values, ...wire],
  dhcp: [...values, ...wire],
  relay: [...values, 'linux'],
  kubernetes: [...values, 'model', 'linux'],
  docker: [...values, 'model'],
  probes: [...values, 'model'],
  'dns-message': values,
  'dns-workers': [...values, 'linux'],
  ...Object.fromEntries(domain.map((folder) => [folder, belowDomain])),
  // A mode stands on what all modes share; ipvs and userspace also let nftables do what is not theirs.
  'proxy-nftables': [...belowDomain, 'proxy'],
  'proxy-iptables': [...belowDomain, 'proxy'],
  'proxy-ipvs': [...belowDomain, 'proxy', 'proxy-nftables'],
  'proxy-userspace': [...belowDomain, 'proxy', 'proxy-nftables'],
  dns: [...belowDomain, 'dns-forward'],
  'dns-corefile': [...belowDomain, 'dns-forward', 'dns'],
  daemon: [...belowDomain, ...domain],
  cli: [...belowDomain, ...domain, 'daemon'],
}

const folders = readdirSync('src')
const files = folders.flatMap((folder) =>
  readdirSync(join('src', folder))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join('src', folder, name)),
)
const isTest = (file: string): boolean => file.endsWith('.test.ts')

/** What a file imports, statically or not; relative paths resolved from the repository's root. */
function importsOf(file: string): string[] {
  const found = readFileSync(file, 'utf8').matchAll(/\bfrom '([^'\n]+)'$|^import '([^'\n]+)'$|\bimport\('([^']+)'\)/gm)
  return [...found]
    .map((match) => match[1] ?? match[2] ?? match[3] ?? '')
    .map((path) => (path.startsWith('.') ? normalize(join(dirname(file), path)) : path))
}

describe('folders of src', () => {
  test.each(folders)('%s has a README with the outline', (folder) => {
    const readme = readFileSync(join('src', folder, 'README.md'), 'utf8')
    const parts = [...readme.matchAll(/^(?:## |\*\*)([A-Z][^.*\n]*)/gm)].map((match) => match[1] ?? '')
    const outline = [/^What it does$/, /^Example$/, /^How it (maps|works)/, /^Limits$/, /^See also$/]
    const known = parts.filter((part) => outline.some((expected) => expected.test(part)))
    expect(known.map((part) => outline.findIndex((expected) => expected.test(part)))).toEqual([0, 1, 2, 3, 4])
  })

  test.each(folders)('%s imports downwards only', (folder) => {
    const allowed = mayImport[folder]
    if (!allowed) throw new Error(`src/${folder} has no place in the house: add it here and to .oxlintrc.json`)
    const reached = files
      .filter((file) => dirname(file) === join('src', folder) && !isTest(file))
      .flatMap((file) => importsOf(file).map((path) => ({ file, path })))
      // What stands neither in src nor in a package (test/, bench/) is out of reach for all.
      .filter(({ path }) => /^(src|test|bench|scripts)\//.test(path))
      .filter(
        ({ path }) => !['src', ...allowed, folder].includes(path.split('/')[path.startsWith('src/') ? 1 : 0] ?? ''),
      )
    expect(reached).toEqual([])
  })
})

test('lint knows every folder of src', () => {
  const { overrides } = JSON.parse(readFileSync('.oxlintrc.json', 'utf8')) as { overrides: { files: string[] }[] }
  const linted = overrides.flatMap(({ files }) => files)
  for (const folder of folders) expect(linted).toContain(`src/${folder}/**/*.ts`)
})

test('packages that src imports, or bench takes files of, are the dependencies, and no others', () => {
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: Record<string, string> }
  const imported = files
    .filter((file) => !isTest(file))
    .flatMap(importsOf)
    .filter((path) => !path.startsWith('src/') && !isBuiltin(path))
  // An installed package has the benchmark, too: its report contains the script of a package.
  const report = readFileSync('bench/report.ts', 'utf8')
  const contained = [...report.matchAll(/import\.meta\.resolve\(`(\w+)\//g)].map(([, name = '']) => name)
  expect([...new Set([...imported, ...contained])].toSorted()).toEqual(Object.keys(dependencies).toSorted())
})

test.each(files.filter(isTest))('%s can fail', (file) => {
  expect(readFileSync(file, 'utf8')).toMatch(/\bexpect[.(]|\btest[A-Z]\w+\(|\bfc\.assert\(/)
})

test('the configuration in docs/config.md is accepted, and names every key', () => {
  const [, yaml] = /```yaml\n([\s\S]*?)```/.exec(readFileSync('docs/config.md', 'utf8')) ?? []
  const example = load(yaml ?? '')
  expect(() => parseConfig(example, { origin: 'docs/config.md', relativeTo: '/' })).not.toThrow()
  expect(keysOf(example, knownKeys)).toEqual(keysOf(knownKeys, knownKeys))
})

/** `a`, `b.c` and so on, sorted; what is no section of `known` ends a path: the names in it are the user's. */
function keysOf(value: unknown, known: unknown, path = ''): string[] {
  if (typeof known !== 'object' || known === null) return [path]
  return Object.entries(value as object)
    .flatMap(([key, inner]) =>
      keysOf(inner, (known as Record<string, unknown>)[key], path === '' ? key : `${path}.${key}`),
    )
    .toSorted()
}
