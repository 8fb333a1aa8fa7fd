import { readFileSync } from 'node:fs'
import { chartsOf, type Chart } from './charts.ts'
import { compareRuns, formatComparison } from './compare.ts'
import { droppedRounds, figuresOf, hasInterval, type Figure } from './estimates.ts'
import { formatNumber } from './format-figure.ts'
import { formatMachine } from './machine.ts'
import type { SuiteResult } from './recorder.ts'
import type { BenchResults } from './results.ts'
import { suites } from './suites.ts'

/** The whole report as one HTML file that loads nothing. */
export function formatReport(results: BenchResults, before?: BenchResults): string {
  const charts = chartsOf(results)
  const figures = figuresOf(results)
  const { machine, fairlead, tookMs } = results
  const plot = plotBundle()
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fairlead bench, ${escape(machine.date.slice(0, 10))}</title>
<style>${plot.css}
${page('page.css')}</style>
<h1>fairlead bench</h1>
<p class="quiet">fairlead ${escape(fairlead)}, ${escape(machine.date)}, ${(tookMs / 60_000).toFixed(1)} minutes, seed ${results.options.seed}<br>${escape(formatMachine(machine))}</p>
${formatRounds(results)}
<nav>${results.suites.map(({ suite }) => `<a href="#suite-${suite}">${suite}</a>`).join(' ')}</nav>
<h2>Charts</h2>
<div class="charts">
${charts.map(formatChart).join('\n')}
</div>
${results.suites.map((result) => formatSuite(result, figures)).join('\n')}
${before ? `<h2>Compared with ${escape(before.machine.date)}</h2><pre>${escape(formatComparison(compareRuns(results, before)))}</pre>` : ''}
${scripts(charts, plot.script)}
</html>
`
}

function scripts(charts: readonly Chart[], plot: string): string {
  return `<script type="application/json" id="charts">${JSON.stringify(charts).replaceAll('<', '\\u003c')}</script>
<script>${plot}</script>
<script>${page('page.js')}</script>`
}

function formatRounds({ suites: done, dropRule, missingModes }: BenchResults): string {
  const { all, dropped, busyParts } = droppedRounds(done)
  const rule = `steal above ${dropRule.steal * 100} %, or other processes above ${dropRule.foreign * 100} % of the CPUs`
  const busy =
    busyParts.length > 0
      ? ` The machine was busy: by that rule more than half would go of ${busyParts.join('; ')}, so all of these count.`
      : ''
  const missing = Object.entries(missingModes).map(([mode, reason]) => `<br>Without mode ${mode}: ${escape(reason)}`)
  return `<p class="quiet">Medians with 95 % bootstrap intervals. ${dropped} of ${all} rounds do not count (${rule}).${escape(busy)}${missing.join('')}</p>`
}

function formatChart({ id, title, note }: Chart): string {
  return `<figure id="chart-${id}"><h3>${escape(title)}</h3><ul class="legend"></ul><div class="plot" role="img" aria-label="${escape(title)}"></div><figcaption>${escape(note)}</figcaption></figure>`
}

function formatSuite(result: SuiteResult, figures: readonly Figure[]): string {
  const { suite, claims, skipped, failures, texts } = result
  const about = suites.find(({ name }) => name === suite)
  const own = figures.filter((figure) => figure.suite === suite)
  return `<h2 id="suite-${suite}">${suite}</h2>
<p>${escape(about?.measures ?? '')}. ${escape(about?.why ?? '')}</p>
<ul class="claims">
${claims.map(({ text, holds, seen }) => `<li${holds ? '' : ' class="fails"'}>${escape(text)}: <span class="quiet">${escape(seen)}</span></li>`).join('\n')}
</ul>
${failures.map(({ what, reason }) => `<p>Failed: ${escape(what)}: ${escape(reason)}</p>`).join('\n')}
${skipped.map(({ what, reason }) => `<p class="quiet">Left out: ${escape(what)}: ${escape(reason)}</p>`).join('\n')}
${texts.map((text) => `<pre>${escape(text)}</pre>`).join('\n')}
${formatTables(own)}`
}

/** One table for each figure: sizes down, modes across, as far as that is what tells them apart. */
function formatTables(figures: readonly Figure[]): string {
  const groups = Map.groupBy(figures, ({ figure, unit }) => `${figure}${unit === '' ? '' : `, ${unit}`}`)
  const tables = [...groups].map(([title, of]) => {
    const modes = [...new Set(of.map(({ mode }) => mode ?? ''))]
    const rows = Map.groupBy(of, rowOf)
    const body = [...rows].map(([name, cells]) => {
      const columns = modes.map((mode) => {
        const cell = cells.find((one) => (one.mode ?? '') === mode)
        if (!cell) return '<td></td>'
        const interval = hasInterval(cell)
          ? ` <span class="quiet">${formatNumber(cell.low)} to ${formatNumber(cell.high)}</span>`
          : ''
        return `<td>${formatNumber(cell.value)}${interval}</td>`
      })
      return `<tr><td>${escape(name)}</td>${columns.join('')}</tr>`
    })
    return `<details><summary>${escape(title)}</summary><div class="scroll"><table><tr><th></th>${modes.map((mode) => `<th>${escape(mode)}</th>`).join('')}</tr>${body.join('')}</table></div></details>`
  })
  return tables.join('\n')
}

function rowOf({ services, endpoints, labels }: Figure): string {
  const parts = [
    ...(services === undefined ? [] : [`${services} Services`]),
    ...(services === undefined && endpoints !== undefined ? [`${endpoints} endpoints`] : []),
    ...Object.values(labels ?? {}),
  ]
  return parts.join(', ')
}

function page(name: string): string {
  return readFileSync(new URL(`page/${name}`, import.meta.url), 'utf8')
}

/** What a report needs of uPlot. */
function plotBundle(): { readonly script: string; readonly css: string } {
  const read = (name: string): string => readFileSync(new URL(import.meta.resolve(`uplot/dist/${name}`)), 'utf8')
  return { script: read('uPlot.iife.min.js'), css: read('uPlot.min.css') }
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
