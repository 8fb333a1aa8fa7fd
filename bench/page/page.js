/* Draws the charts of the report; runs in the browser, after uPlot. */
const charts = JSON.parse(document.getElementById('charts').textContent)
const peers = [...new Set(charts.flatMap(({ lines }) => lines.map(({ mode }) => mode)))].filter(
  (mode) => colour(mode) === '',
)
const plots = []

function colour(mode) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${mode}`).trim()
}

/** A property with light-dark() comes back as it was written: an element resolves it. */
function resolved(name) {
  const probe = document.createElement('i')
  probe.style.color = `var(--${name})`
  document.body.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

function colourOf(mode) {
  const peer = peers.indexOf(mode)
  return resolved(peer < 0 ? mode : `peer-${(peer % 4) + 1}`)
}

function number(value) {
  if (value === null || value === undefined) return ''
  const size = Math.abs(value)
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`
  return String(+value.toPrecision(3))
}

/** Where 0 stands on a logarithmic axis: below all else. Undefined where it need not. */
function placeOfZero({ y, lines }) {
  const values = lines.flatMap(({ points }) => points.flatMap((point) => [point.y, point.low ?? point.y]))
  const known = values.filter((value) => value !== null)
  if (!y.log || known.every((value) => value > 0)) return undefined
  const above = known.filter((value) => value > 0)
  return above.length > 0 ? Math.min(...above) / 2 : 1
}

/** All x of a chart, and the values of each line there. */
function columns({ x, lines }, zero) {
  const place = (value) => (x.log ? Math.max(value, 1) : value)
  const xs = [...new Set(lines.flatMap(({ points }) => points.map((point) => place(point.x))))].sort((a, b) => a - b)
  const at = ({ points }, field) => {
    const known = new Map(points.map((point) => [place(point.x), point[field] ?? point.y]))
    return xs.map((value) => {
      const found = known.get(value)
      if (found === undefined || found === null) return null
      return zero === undefined ? found : Math.max(found, zero)
    })
  }
  return { xs, at }
}

/** Round numbers from one value to another: the fewest that an axis can be read by. */
function ticksOf(from, to) {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7]]) {
    const ticks = []
    for (let power = Math.floor(Math.log10(from)); 10 ** power <= to; power++)
      ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= from && tick <= to))
    if (ticks.length >= 4) return ticks
  }
  // Less than a decade or so: as a linear axis has them.
  const rough = (to - from) / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough)
  const first = Math.ceil(from / step)
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) => (first + i) * step)
}

/** Labels of an x axis, but for those that would stand in the one to their right. */
function withRoom(plot, places, labels) {
  const widthOf = (label) => 7 * label.length + 6
  let end = Infinity
  return labels
    .toReversed()
    .map((label, i) => {
      const middle = plot.valToPos(places.at(-1 - i), 'x')
      if (middle + widthOf(label) / 2 > end) return ''
      end = middle - widthOf(label) / 2
      return label
    })
    .toReversed()
}

function draw(chart) {
  const box = document.querySelector(`#chart-${chart.id} .plot`)
  box.replaceChildren()
  const zero = placeOfZero(chart)
  const { xs, at } = columns(chart, zero)
  const { x, y, lines, kind } = chart
  const ink = resolved('quiet')
  const grid = { stroke: resolved('rule'), width: 1 }
  const bars = kind === 'bars'
  const data = [xs]
  const series = [{}]
  const bands = []
  for (const [i, line] of lines.entries()) {
    const stroke = colourOf(line.mode)
    const common = { label: line.name, stroke, points: { show: !bars && xs.length < 30, size: 6, fill: stroke } }
    if (bars) {
      const width = 0.8 / lines.length
      const paths = (u, index) => {
        const path = new Path2D()
        const step = u.valToPos(1, 'x', true) - u.valToPos(0, 'x', true)
        for (const [j, value] of u.data[index].entries()) {
          if (value === null) continue
          const left = u.valToPos(xs[j], 'x', true) + (i * width - 0.4) * step
          const top = u.valToPos(value, 'y', true)
          path.rect(left, top, width * step * 0.9, u.valToPos(0, 'y', true) - top)
        }
        return { fill: path, stroke: path }
      }
      data.push(at(line, 'y'))
      series.push({ ...common, fill: stroke, width: 0, paths })
      continue
    }
    data.push(at(line, 'y'))
    // Two that are equal show both colours.
    const isHidden = data.slice(1, -1).some((other) => JSON.stringify(other) === JSON.stringify(data.at(-1)))
    const dash = line.dashed ? [3, 4] : isHidden ? [10, 10] : undefined
    series.push({ ...common, width: 2, spanGaps: true, ...(dash && { dash }) })
    if (line.points.some(({ low }) => low !== undefined && low !== null)) {
      data.push(at(line, 'high'), at(line, 'low'))
      const hidden = { stroke: 'transparent', width: 0, points: { show: false }, spanGaps: true }
      series.push({ ...hidden, label: `${line.name} high` }, { ...hidden, label: `${line.name} low` })
      bands.push({
        series: [series.length - 2, series.length - 1],
        fill: stroke.replace('rgb(', 'rgba(').replace(')', ', 0.18)'),
      })
    }
  }
  const axis = {
    stroke: ink,
    grid,
    ticks: grid,
    font: '12px system-ui, sans-serif',
    labelFont: '12px system-ui, sans-serif',
  }
  const values = data
    .slice(1)
    .flat()
    .filter((value) => value !== null)
  const low = Math.min(...values)
  const high = Math.max(...values)
  const yRange = y.log ? () => [low * 0.85, high * 1.15] : () => [0, high * 1.1]
  const xRange = bars
    ? () => [-0.6, xs.length - 0.4]
    : x.log
      ? () => [xs[0] * 0.8, xs.at(-1) * 1.25]
      : () => [xs[0], xs.at(-1)]
  const hasZero = x.log && lines.some(({ points }) => points.some((point) => point.x === 0))
  const labelOfX = (value) => (hasZero && value === 1 ? '0' : number(value))
  const plot = new uPlot(
    {
      width: box.clientWidth,
      height: box.clientHeight,
      series,
      bands,
      cursor: { show: false },
      legend: { show: false },
      scales: {
        x: { time: false, distr: x.log ? 3 : 1, range: xRange },
        y: { distr: y.log ? 3 : 1, range: yRange },
      },
      axes: [
        {
          ...axis,
          label: x.label,
          labelSize: 18,
          size: 30,
          values: (plot, splits) =>
            bars ? splits.map((value) => x.names[value] ?? '') : withRoom(plot, splits, splits.map(labelOfX)),
          ...((x.log || bars) && { splits: () => xs, filter: (_, splits) => splits }),
        },
        {
          ...axis,
          label: y.label,
          labelSize: 18,
          size: 52,
          values: (_, splits) => splits.map((value) => (value === zero ? '0' : number(value))),
          ...(y.log && {
            splits: () => {
              const ticks = ticksOf(low * 0.85, high * 1.15)
              return zero === undefined ? ticks : [zero, ...ticks.filter((tick) => tick >= 2 * zero)]
            },
            filter: (_, splits) => splits,
          }),
        },
      ],
    },
    data,
    box,
  )
  plots.push(plot)
}

function drawAll() {
  for (const plot of plots.splice(0)) plot.destroy()
  for (const chart of charts) {
    draw(chart)
    const legend = document.querySelector(`#chart-${chart.id} .legend`)
    legend.replaceChildren(
      ...chart.lines.map(({ name, mode, dashed }) => {
        const item = document.createElement('li')
        item.textContent = name
        item.className = dashed ? 'dashed' : ''
        item.style.setProperty('--line', colourOf(mode))
        return item
      }),
    )
  }
  document.documentElement.dataset.charts = String(plots.length)
}

drawAll()
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll)
let width = innerWidth
addEventListener('resize', () => {
  if (innerWidth === width) return
  width = innerWidth
  drawAll()
})
