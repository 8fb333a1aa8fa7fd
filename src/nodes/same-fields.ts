import type { Condition } from './node-object.ts'

/** Whether an object has all fields of another, with their values; lists must be as long. Pure. */
export function hasFields(actual: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) {
    return (
      Array.isArray(actual) &&
      actual.length === wanted.length &&
      wanted.every((value, index) => hasFields(actual[index], value))
    )
  }
  if (typeof wanted !== 'object' || wanted === null) return actual === wanted
  if (typeof actual !== 'object' || actual === null) return false
  return Object.entries(wanted).every(([key, value]) => hasFields((actual as Record<string, unknown>)[key], value))
}

/** Conditions with the time since which each is so: that of the object, where it said the same. Pure. */
export function withTimes(
  conditions: readonly Condition[],
  { object, now, heartbeat }: { readonly object: unknown; readonly now: Date; readonly heartbeat?: boolean },
): object[] {
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z')
  return conditions.map((condition) => {
    const before = conditionsOf(object).find(({ type }) => type === condition.type)
    const since = before?.['status'] === condition.status ? before['lastTransitionTime'] : undefined
    return {
      ...condition,
      lastTransitionTime: typeof since === 'string' ? since : time,
      ...(heartbeat && { lastHeartbeatTime: time }),
    }
  })
}

/** Whether an object has these conditions, whatever others. Pure. */
export function hasConditions(object: unknown, conditions: readonly Condition[]): boolean {
  const present = conditionsOf(object)
  return conditions.every((wanted) =>
    present.some(
      (one) =>
        one['type'] === wanted.type &&
        one['status'] === wanted.status &&
        (one['reason'] ?? '') === wanted.reason &&
        (one['message'] ?? '') === wanted.message,
    ),
  )
}

function conditionsOf(object: unknown): Record<string, unknown>[] {
  const { status } = (object ?? {}) as { status?: { conditions?: Record<string, unknown>[] } }
  return status?.conditions ?? []
}
