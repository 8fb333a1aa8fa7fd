import type { ServiceExplanationView } from '../daemon/control-api.ts'
import { formatTable } from './table.ts'

const origins = {
  pod: 'a pod',
  node: 'a process of this node',
  outside: 'a client outside',
} as const satisfies Record<ServiceExplanationView['origin'], string>

/** What `fairlead explain FROM TO` prints for people. */
export function formatServiceExplanation(view: ServiceExplanationView): string {
  const via = view.interface === undefined ? '' : `, in at ${view.interface}`
  const lines = [
    `a new connection from ${view.source} (${origins[view.origin]}${via}) to ${view.to}: ${outcomeText(view)}`,
  ]
  if (view.service !== undefined)
    lines.push(`  Service    ${view.service}${view.frontend === undefined ? '' : `, ${view.frontend}`}`)
  for (const problem of view.problems) lines.push(`  ! ${problem}`)
  if (view.choice !== undefined) lines.push(`  chosen     ${view.choice}`)
  if (view.masquerade !== undefined) {
    const source = view.masquerade
      ? view.mode === 'userspace'
        ? "this node's: the daemon makes the connection itself"
        : "this node's: the client's is replaced (masquerade), so that answers come back through here"
      : "the client's own (but an endpoint that reaches itself sees this node's)"
    lines.push(`  source     ${source}`)
  }
  if (view.endpoints.length > 0) lines.push('  endpoints', ...endpointLines(view))
  if (view.evidence.length > 0) {
    lines.push(`  in the kernel (${view.mode})`, ...view.evidence.map((line) => `    ${line}`))
  }
  if (view.differences.length > 0) {
    lines.push('  ! the kernel is not as wanted:', ...view.differences.map((line) => `    ${line}`))
  } else if (view.compared) lines.push('  the kernel agrees')
  return lines.join('\n')
}

function outcomeText({ outcome, why, endpoints }: ServiceExplanationView): string {
  switch (outcome) {
    case 'endpoints': {
      const count = endpoints.filter(({ share }) => share > 0).length
      return count === 1 ? 'reaches the one endpoint' : `reaches one of ${count} endpoints`
    }
    case 'rejected':
      return `is refused: ${why}`
    case 'dropped':
      return `is dropped: ${why}`
    case 'not-ours':
      return `is none of ours: ${why}`
    default:
      return outcome satisfies never
  }
}

function endpointLines({ endpoints }: ServiceExplanationView): string[] {
  const rows = endpoints
    .slice(0, 50)
    .map(({ endpoint, pod, node, zone, share, why }) => [
      endpoint,
      why === undefined ? `${(share * 100).toFixed(1)} %` : '-',
      pod ?? '',
      [node, zone].filter((place) => place !== undefined).join(', '),
      why ?? '',
    ])
  const lines = formatTable(['endpoint', 'share', 'pod', 'node', 'why not'], rows).split('\n')
  if (endpoints.length > 50) lines.push(`and ${endpoints.length - 50} more (--json has all)`)
  return lines.map((line) => `    ${line}`)
}
