import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BrowserPage } from './browser.ts'
import { chartsOf } from './charts.ts'
import { compareRuns } from './compare.ts'
import { formatMarkdown } from './markdown.ts'
import { hasProgram } from './modes.ts'
import { exampleResults } from './example-results.ts'
import { Recorder } from './recorder.ts'
import { formatReport } from './report.ts'

const browser = ['chromium', 'chromium-browser', 'google-chrome'].find((name) =>
  hasProgram(name, process.env['PATH'] ?? ''),
)

test('bench/README.md names every field of results.json', () => {
  const [before, now] = [exampleResults({ seed: 1 }), exampleResults({ shift: 1.5, seed: 2 })]
  const results = { ...now, comparison: { before: '', ...compareRuns(now, before) } }
  const readme = readFileSync(new URL('README.md', import.meta.url), 'utf8')
  // What names are of: not fields.
  const isMap = (key: string): boolean => ['versions', 'missingModes', 'labels'].includes(key)
  const fields = (value: unknown): string[] => {
    if (Array.isArray(value)) return value.flatMap(fields)
    if (typeof value !== 'object' || value === null) return []
    return Object.entries(value).flatMap(([key, inner]) => [key, ...(isMap(key) ? [] : fields(inner))])
  }
  const named = [...new Set(fields(results))].filter(
    (field) => !readme.includes(`\`${field}\``) && !readme.includes(`\`${field}[i]\``),
  )
  // What a figure in `moved` has besides its key.
  expect(named.toSorted()).toEqual(['id'])
})

test('chartsOf draws every kind of figure that the run has, and nothing that it has not', () => {
  const results = exampleResults()
  expect(chartsOf(results).map(({ id }) => id)).toEqual([
    'connect-last',
    'connect-percentiles',
    'connect-none',
    'program-bytes',
    'update-visible',
    'churn',
    'distribution',
  ])
  expect(chartsOf({ ...results, suites: [] })).toEqual([])
})

test('formatReport loads nothing, and shows text as text', () => {
  const html = formatReport(exampleResults({ note: '<b>not bold</b>' }))
  expect(html).not.toMatch(/(?:src|href)="(?!#)/)
  expect(html).toContain('&lt;b&gt;not bold&lt;/b&gt;')
  expect(html).not.toContain('<b>not bold</b>')
})

test('formatMarkdown has the claims, and a table with sizes down and modes across', () => {
  const text = formatMarkdown(exampleResults())
  expect(text).toContain('- holds: the map is flat: it is')
  expect(text).toContain('- **does not hold**: the list is flat: it is not')
  expect(text).toMatch(/\| Services \| nftables \| iptables-legacy \| direct \| kube-proxy \|\n/)
})

test('formatMarkdown shows text as text, whatever it is of', () => {
  const recorder = new Recorder('attach')
  recorder.fail('a|b', new Error('no <b>peer</b>:\n  *why* `not`'))
  recorder.print('a  table')
  const text = formatMarkdown({ ...exampleResults(), suites: [recorder.result()] })
  expect(text).toContain('- **failed**: a\\|b: no \\<b>peer\\</b>: \\*why\\* \\`not\\`\n')
  expect(text).toContain('\n```\na  table\n```\n')
})

test('formatMarkdown has a row for each Service of balance, and the memory of the proxy', () => {
  const balance = new Recorder('balance')
  const memory = new Recorder('memory')
  const key = { unit: '', kind: 'share', better: 'neither', mode: 'nftables' } as const
  for (const [service, p] of [
    ['even', 0.5],
    ['weighted', 0.25],
  ] as const)
    balance.add({ ...key, figure: 'chi-square p', labels: { service } }, p)
  memory.add({ ...key, figure: 'proxy', unit: 'MB', kind: 'size', services: 10 }, 120)
  const text = formatMarkdown({ ...exampleResults(), suites: [balance.result(), memory.result()] })
  expect(text).toContain('|  | nftables |\n| --- | --- |\n| even | 0.5 |\n| weighted | 0.25 |\n')
  expect(text).toContain('| Services | nftables |\n| --- | --- |\n| 10 | 120 MB |\n')
})

test('formatMarkdown has what moved since another run', () => {
  const [before, now] = [exampleResults({ seed: 1 }), exampleResults({ shift: 1.5, seed: 2 })]
  const text = formatMarkdown(now, compareRuns(now, before))
  expect(text).toMatch(/\n\d+ of \d+ figures agree within their intervals\.\n/)
  expect(text).toMatch(/\n\| connect \\\| SYN to SYN-ACK \\\| nftables \\\| 10 Services .* \| 1\.5\dx \| worse \|\n/)
})

describe.skipIf(browser === undefined)(
  'the report in a browser (skipped without Chromium; Debian: apt-get install chromium)',
  () => {
    test.each([
      { width: 360, height: 800, scheme: 'light' },
      { width: 360, height: 800, scheme: 'dark' },
      { width: 1440, height: 900, scheme: 'light' },
      { width: 1440, height: 900, scheme: 'dark' },
    ] as const)('shows all charts and overflows nowhere at $width px, $scheme', { timeout: 60_000 }, async (view) => {
      const folder = mkdtempSync(join(tmpdir(), 'report-'))
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
      const file = join(folder, 'report.html')
      const results = exampleResults()
      writeFileSync(file, formatReport(results))
      await using page = await BrowserPage.open(browser ?? '')
      await page.load(pathToFileURL(file).href, view)
      await page.evaluate(`document.querySelectorAll('details').forEach((one) => { one.open = true })`)

      expect(await page.evaluate(`document.documentElement.dataset.charts`)).toBe(String(chartsOf(results).length))
      expect(await page.evaluate(inkOfCharts)).toEqual(chartsOf(results).map(({ id }) => `chart-${id}`))
      expect(await page.evaluate(`document.documentElement.scrollWidth`)).toBeLessThanOrEqual(view.width)
      expect(await page.evaluate(tooWide)).toEqual([])
      const paper = (await page.evaluate(`getComputedStyle(document.body).backgroundColor`)) as string
      expect(paper).toBe(view.scheme === 'light' ? 'rgb(255, 255, 255)' : 'rgb(20, 23, 26)')
      expect(page.errors).toEqual([])
    })

    test(
      'shows figures of 0 and texts without spaces, and axes of a narrow range with four marks',
      { timeout: 60_000 },
      async () => {
        const folder = mkdtempSync(join(tmpdir(), 'report-'))
        onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
        const file = join(folder, 'report.html')
        const update = new Recorder('update')
        const key = { figure: 'event to first packet', unit: 'ms', kind: 'time', better: 'less' } as const
        for (const services of [10, 1000]) {
          update.add({ ...key, mode: 'nftables', services }, 0)
          update.add({ ...key, mode: 'userspace', services }, services)
        }
        update.fail('nftables', new Error(`{"log":"${'x'.repeat(2000)}"}`))
        writeFileSync(file, formatReport({ ...exampleResults(), suites: [update.result()] }))
        await using page = await BrowserPage.open(browser ?? '')
        await page.load(pathToFileURL(file).href, { width: 360, height: 800, scheme: 'light' })
        expect(await page.evaluate(`document.documentElement.scrollWidth`)).toBe(360)
        expect(await page.evaluate(inkOfCharts)).toEqual(['chart-update-visible'])
        const marks = async (from: number, to: number): Promise<unknown> =>
          await page.evaluate(`ticksOf(${from}, ${to})`)
        expect(await marks(27, 52)).toEqual([30, 35, 40, 45, 50])
        expect(await marks(48, 250)).toEqual([50, 70, 100, 200])
        expect(await marks(0.7, 40_000)).toEqual([1, 10, 100, 1000, 10_000])
        expect(await marks(1, 90)).toEqual([1, 3, 10, 30])
        expect(page.errors).toEqual([])
      },
    )
  },
)

/** Charts of which the canvas has more than a few coloured dots: lines, not only axes. */
const inkOfCharts = `[...document.querySelectorAll('figure')].filter((figure) => {
  const canvas = figure.querySelector('canvas')
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let dots = 0
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 0 && Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 40) dots++
  }
  return dots > 100
}).map(({ id }) => id)`

/** What reaches out of the page on the right, but for what scrolls by itself. */
const tooWide = `[...document.querySelectorAll('body *')].filter((element) =>
  element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.scroll, pre')
).map((element) => element.outerHTML.slice(0, 80))`
