import { schedulers, type VirtualServer } from '../ipvs/objects.ts'
import { objectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'

/** The annotation by which a Service chooses its scheduler: `lc`, or with flags `mh,port` and `sh,fallback,port`. */
export const schedulerAnnotation = 'fairlead.dev/ipvs-scheduler'

/** How a virtual server chooses. */
export type Scheduling = Pick<VirtualServer, 'scheduler' | 'fallback' | 'hashPort'>

/** Reads the value of {@link schedulerAnnotation}; undefined when it is none. */
export function parseScheduling(text: string): Scheduling | undefined {
  const [name, ...flags] = text.split(',').map((word) => word.trim())
  const scheduler = schedulers.find((one) => one === name)
  if (!scheduler || !flags.every((flag) => flag === 'port' || flag === 'fallback')) return undefined
  if (flags.length > 0 && scheduler !== 'mh' && scheduler !== 'sh') return undefined
  return {
    scheduler,
    ...(flags.includes('fallback') && { fallback: true }),
    ...(flags.includes('port') && { hashPort: true }),
  }
}

/** What is wrong with a Service's annotation. Said in every mode, so that a mistake shows before mode ipvs is there. */
export function schedulingProblems(service: Service): readonly string[] {
  const text = service.annotations[schedulerAnnotation]
  if (text === undefined || parseScheduling(text)) return []
  const expected = 'expected a scheduler of IPVS like lc, or mh,port; taken for none'
  return [`${objectKey(service)}: metadata.annotations ${schedulerAnnotation} is "${text}" (${expected})`]
}
