import { apiSuite } from './api-suite.ts'
import { attachSuite } from './attach-suite.ts'
import { balanceSuite } from './balance-suite.ts'
import { connectSuite } from './connect-suite.ts'
import { dnsFaultsSuite } from './dns-faults-suite.ts'
import { dnsSuite } from './dns-suite.ts'
import { followSuite } from './follow-suite.ts'
import { ipvsSuite } from './ipvs-suite.ts'
import { memorySuite } from './memory-suite.ts'
import { programSuite } from './program-suite.ts'
import type { Suite } from './suite.ts'
import { throughputSuite } from './throughput-suite.ts'
import { updateSuite } from './update-suite.ts'

/** All suites, in the order in which they run. */
export const suites: readonly Suite[] = [
  connectSuite,
  programSuite,
  updateSuite,
  throughputSuite,
  balanceSuite,
  memorySuite,
  attachSuite,
  followSuite,
  apiSuite,
  ipvsSuite,
  dnsSuite,
  dnsFaultsSuite,
]
