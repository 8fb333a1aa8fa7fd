import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLog, type Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import { changedServices } from '../model/snapshot.ts'
import { readFiles, watchFiles, type FileSource } from './files.ts'
import { formatProblem, type SourceState } from './source.ts'

const service = (name: string, ip = '10.0.0.1') =>
  `apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: ${name}}\nspec:\n  clusterIP: ${ip}\n  ports:\n    - port: 80\n`
const slice = (name: string, ...ips: string[]) =>
  `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, name: ${name}-x, labels: {kubernetes.io/service-name: ${name}}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints:\n${ips.map((ip) => `  - addresses: [${ip}]\n`).join('')}`

let root: string
const open: FileSource[] = []
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'fairlead-files-'))
})
afterEach(() => {
  for (const source of open.splice(0)) source[Symbol.dispose]()
  rmSync(root, { recursive: true, force: true })
})

const write = (name: string, ...documents: string[]) => writeFileSync(join(root, name), documents.join('---\n'))
const names = (state: SourceState) => [...state.snapshot.services.keys()].sort()
const reasons = (state: SourceState) => state.problems.map((p) => formatProblem(p).replace(`${root}/`, ''))

async function watchRoot(path = root, log: Log = silentLog): Promise<FileSource> {
  const source = watchFiles(path, { log })
  open.push(source)
  await source.loaded
  return source
}

/** Waits for the first state, from now on, that passes. */
async function when(source: FileSource, passes: (state: SourceState) => boolean): Promise<SourceState> {
  if (passes(source.current)) return source.current
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(
      () => reject(new Error(`not seen; last: ${JSON.stringify([names(source.current), reasons(source.current)])}`)),
      3000,
    )
    const stop = source.subscribe((state) => {
      if (!passes(state)) return
      clearTimeout(timeout)
      stop()
      resolve(state)
    })
  })
}

describe('readFiles()', () => {
  test('reads YAML and JSON below a folder, and leaves out hidden names and other files', async () => {
    mkdirSync(join(root, 'sub', 'deep'), { recursive: true })
    mkdirSync(join(root, '.git'))
    write('a.yaml', service('a'), slice('a', '10.1.0.1'))
    write('sub/b.yml', service('b'))
    write(
      'sub/deep/c.json',
      JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { namespace: 'shop', name: 'c' } }),
    )
    write('.git/d.yaml', service('d'))
    write('.e.yaml', service('e'))
    write('f.txt', service('f'))
    const state = await readFiles(root, { log: silentLog })
    expect(names(state)).toEqual(['shop/a', 'shop/b', 'shop/c'])
    expect(state.snapshot.slices.get('shop/a')).toMatchObject([{ endpoints: [{ address: '10.1.0.1' }] }])
    expect(state).toMatchObject({ synced: true, problems: [] })
  })

  test('reads one file of any name', async () => {
    write('manifests', service('a'))
    expect(names(await readFiles(join(root, 'manifests'), { log: silentLog }))).toEqual(['shop/a'])
  })

  test('is not synced when there is nothing to read, and says so', async () => {
    const state = await readFiles(join(root, 'missing'), { log: silentLog })
    expect(state.synced).toBe(false)
    expect(reasons(state)).toEqual(['missing: is not there; what was read before stays'])
  })

  test('serves the rest when one document is broken, one refused and one endpoint wrong', async () => {
    write(
      'a.yaml',
      service('a'),
      'kind: [\n',
      service('b').replace('port: 80', 'port: 70000'),
      service('c'),
      slice('c', '10.1.0.1', 'db.example'),
    )
    const state = await readFiles(root, { log: silentLog })
    expect(names(state)).toEqual(['shop/a', 'shop/c'])
    expect(state.snapshot.slices.get('shop/c')?.[0]?.endpoints).toHaveLength(1)
    expect(reasons(state)).toEqual([
      'a.yaml:10 (document 2): not YAML: deficient indentation',
      'a.yaml:17 (document 3), Service shop/b: spec.ports[0].port: 70000 is not a port (expected a whole number from 1 to 65535)',
      'a.yaml:34 (document 5), EndpointSlice shop/c-x: endpoints[1].addresses[0]: "db.example" is not an IPv4 address',
    ])
  })

  test('takes the first of two definitions, by file name, and names both places', async () => {
    write('b.yaml', service('x'), service('web', '10.0.0.2'))
    write('a.yaml', service('web', '10.0.0.1'))
    const state = await readFiles(root, { log: silentLog })
    expect(state.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.0.0.1'])
    expect(reasons(state)).toEqual([
      `b.yaml:9 (document 2), Service shop/web: is already defined in ${root}/a.yaml:1 (document 1), which counts`,
    ])
  })

  test('does not follow a link to a folder above without end', async () => {
    symlinkSync(root, join(root, 'loop'))
    write('a.yaml', service('a'))
    expect(names(await readFiles(root, { log: silentLog }))).toEqual(['shop/a'])
  })
})

describe('watchFiles()', () => {
  test('changes one key when one endpoint of one document changes', async () => {
    const all = Array.from({ length: 200 }, (_, i) => [service(`s${i}`), slice(`s${i}`, '10.1.0.1')]).flat()
    write('a.yaml', ...all)
    const source = await watchRoot()
    const before = source.current.snapshot
    write('a.yaml', ...all.map((text) => (text.includes('s77-x') ? slice('s77', '10.1.0.2') : text)))
    const after = (await when(source, (state) => state.snapshot !== before)).snapshot
    expect([...changedServices(before, after)]).toEqual(['shop/s77'])
    expect(SharedMap.changedKeys(before.services, after.services).size).toBe(0)
  })

  test('keeps objects identical when documents move within their file', async () => {
    write('a.yaml', service('a'), service('b'))
    const source = await watchRoot()
    const before = source.current.snapshot
    write('a.yaml', service('new'), '# a comment\n' + service('c'), service('b'), service('a'))
    const after = (await when(source, (state) => names(state).length === 4)).snapshot
    expect([...changedServices(before, after)].sort()).toEqual(['shop/c', 'shop/new'])
  })

  test('follows new files, new folders, removed files and removed folders', async () => {
    const source = await watchRoot()
    write('a.yaml', service('a'))
    await when(source, (state) => names(state).join() === 'shop/a')
    mkdirSync(join(root, 'sub'))
    write('sub/b.yaml', service('b'))
    await when(source, (state) => names(state).join() === 'shop/a,shop/b')
    rmSync(join(root, 'a.yaml'))
    await when(source, (state) => names(state).join() === 'shop/b')
    rmSync(join(root, 'sub'), { recursive: true })
    await when(source, (state) => names(state).length === 0)
    mkdirSync(join(root, 'sub'))
    write('sub/c.yaml', service('c'))
    await when(source, (state) => names(state).join() === 'shop/c')
  })

  test('follows an editor that replaces the file by renaming', async () => {
    write('a.yaml', service('a'))
    const source = await watchRoot(join(root, 'a.yaml'))
    for (const name of ['b', 'c']) {
      write('a.yaml.tmp', service(name))
      renameSync(join(root, 'a.yaml.tmp'), join(root, 'a.yaml'))
      await when(source, (state) => names(state).join() === `shop/${name}`)
    }
  })

  test('follows the link swap of a ConfigMap mount', async () => {
    for (const [version, name] of [
      ['..1', 'a'],
      ['..2', 'b'],
    ] as const) {
      mkdirSync(join(root, version))
      write(`${version}/web.yaml`, service(name))
    }
    symlinkSync('..1', join(root, '..data'))
    symlinkSync('..data/web.yaml', join(root, 'web.yaml'))
    const source = await watchRoot()
    expect(names(source.current)).toEqual(['shop/a'])
    symlinkSync('..2', join(root, '..data_tmp'))
    renameSync(join(root, '..data_tmp'), join(root, '..data'))
    await when(source, (state) => names(state).join() === 'shop/b')
  })

  test('says nothing in between when many files change at once', async () => {
    const count = 200
    for (const version of ['1', '2']) {
      mkdirSync(join(root, version))
      for (let i = 0; i < count; i++) {
        const text = Array.from({ length: 5 }, (_, n) => service(`s-${i}-${n}`, `10.${version}.${n}.${i + 1}`))
        write(`${version}/${i}.yaml`, ...text)
      }
    }
    symlinkSync('1', join(root, 'now'))
    const source = await watchRoot(join(root, 'now'))
    const seen: string[] = []
    source.subscribe(({ snapshot }) => {
      const versions = [...snapshot.services.values()].map(({ clusterIPs }) => clusterIPs[0]?.split('.')[1])
      seen.push([...new Set(versions)].join('+'))
    })
    const swap = (version: string): void => {
      symlinkSync(version, join(root, 'next'))
      renameSync(join(root, 'next'), join(root, 'now'))
    }
    swap('2')
    await expect.poll(() => seen.at(-1), { timeout: 5000 }).toBe('2')
    // Once more, while the files of the other version are being read.
    swap('1')
    await new Promise((resolve) => setTimeout(resolve, 70))
    swap('2')
    await new Promise((resolve) => setTimeout(resolve, 1000))
    expect(seen.filter((versions) => versions.includes('+'))).toEqual([])
    expect(seen.at(-1)).toBe('2')
  })

  test('reads a List, and says which of its items is wrong', async () => {
    const item = (name: string, port: number): object => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'shop' },
      spec: { ports: [{ port }] },
    })
    write(
      'list.yaml',
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [item('a', 80), item('b', 0), item('c', 81)] }),
    )
    const state = await readFiles(root, { log: silentLog })
    expect(names(state)).toEqual(['shop/a', 'shop/c'])
    expect(reasons(state)).toEqual([expect.stringMatching(/list\.yaml.*items\[1\]\.spec\.ports\[0\]\.port/) as string])
  })

  test('keeps everything when the folder itself goes, and follows the one that comes', async () => {
    const folder = join(root, 'manifests')
    mkdirSync(folder)
    write('manifests/a.yaml', service('a'))
    const source = await watchRoot(folder)
    rmSync(folder, { recursive: true })
    const gone = await when(source, (state) => state.problems.length > 0)
    expect(names(gone)).toEqual(['shop/a'])
    mkdirSync(folder)
    write('manifests/b.yaml', service('b'))
    const back = await when(source, (state) => names(state).join() === 'shop/b')
    expect(back.problems).toEqual([])
  })

  test('becomes synced when a missing path comes', async () => {
    const source = await watchRoot(join(root, 'x', 'y'))
    expect(source.current.synced).toBe(false)
    mkdirSync(join(root, 'x', 'y'), { recursive: true })
    await when(source, (state) => state.synced)
  })

  test('keeps what a document held while it is broken, and lets go when it is whole again', async () => {
    write('a.yaml', service('a'), service('b'), service('c'))
    const source = await watchRoot()
    const before = source.current.snapshot
    write('a.yaml', service('a'), 'metadata: {name: b\n', service('c', '10.0.0.9'))
    const broken = await when(source, (state) => state.problems.length === 1)
    expect(names(broken)).toEqual(['shop/a', 'shop/b', 'shop/c'])
    expect([...changedServices(before, broken.snapshot)]).toEqual(['shop/c'])
    // Another document may still go while the broken one stays.
    write('a.yaml', 'metadata: {name: b\n', service('c', '10.0.0.9'))
    expect(names(await when(source, (state) => names(state).length === 2))).toEqual(['shop/b', 'shop/c'])
    write('a.yaml', service('c', '10.0.0.9'))
    const whole = await when(source, (state) => state.problems.length === 0)
    expect(names(whole)).toEqual(['shop/c'])
  })

  test('keeps an object as it was while its new version is refused', async () => {
    write('a.yaml', service('a'), service('b'))
    const source = await watchRoot()
    const before = source.current.snapshot.services.get('shop/a')
    write('a.yaml', service('a').replace('port: 80', 'port: 70000'), service('b'))
    const state = await when(source, (state) => state.problems.length === 1)
    expect(state.snapshot.services.get('shop/a')).toBe(before)
  })

  test('gives the object to the other file when the first lets go of it', async () => {
    write('a.yaml', service('web', '10.0.0.1'))
    write('b.yaml', service('web', '10.0.0.2'))
    const source = await watchRoot()
    rmSync(join(root, 'a.yaml'))
    const state = await when(source, (state) => state.problems.length === 0)
    expect(state.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.0.0.2'])
  })

  test('logs a problem once when it comes and once when it is gone, and ignored kinds once', async () => {
    const lines: string[] = []
    const log: Log = {
      ...silentLog,
      warn: (fields, message) => void lines.push(`warn ${message} ${(fields as { object?: string }).object}`),
      info: (fields, message) => void lines.push(`info ${message} ${Object.values(fields)[0]}`),
    }
    const bad = service('bad').replace('port: 80', 'port: 0')
    const secret = 'apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n'
    write('a.yaml', bad, secret)
    const source = await watchRoot(root, log)
    write('a.yaml', service('a'), bad, secret, secret.replace('x', 'y'))
    await when(source, (state) => names(state).length === 1)
    write('a.yaml', service('a'), service('bad'))
    await when(source, (state) => names(state).length === 2)
    expect(lines).toEqual([
      'info objects of this kind are ignored v1 Secret',
      'warn a manifest is wrong Service shop/bad',
      'info a problem with a manifest is gone error',
    ])
  })

  test('stops at its signal', async () => {
    const controller = new AbortController()
    const source = watchFiles(root, { log: silentLog, signal: controller.signal })
    open.push(source)
    await source.loaded
    controller.abort()
    let calls = 0
    source.subscribe(() => calls++)
    write('a.yaml', service('a'))
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect([calls, names(source.current)]).toEqual([0, []])
  })
})
