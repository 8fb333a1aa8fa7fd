import { hasInterval, type Figure } from './estimates.ts'

/** `27.3 us (26.9 to 28.1)`; without an interval where there is none. */
export function formatFigure(figure: Figure): string {
  const { value, low, high, unit } = figure
  const interval = hasInterval(figure) ? ` (${formatNumber(low)} to ${formatNumber(high)})` : ''
  return `${formatNumber(value)}${unit === '' ? '' : ` ${unit}`}${interval}`
}

/** Three digits that count; whole numbers below ten million as they are. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value)
  if (Math.abs(value) >= 1000) return value.toFixed(0)
  return String(Number(value.toPrecision(3)))
}
