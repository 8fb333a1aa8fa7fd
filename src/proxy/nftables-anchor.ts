import { ctStateBits, type TableState } from '../nftables/objects.ts'

/** The name of {@link anchorTable}. */
export const anchorTableName = 'fairlead-anchor'

/**
 * When the last NAT chain of a network namespace goes, the kernel unregisters its NAT hooks, and when the last rule that
 * needs connection tracking goes, that too: every established translated connection then hangs. This table keeps both
 * through restarts, repairs and changes of the mode: one rule that names `ct`, and an empty NAT chain at each hook.
 */
export const anchorTable: TableState = {
  family: 'inet',
  name: anchorTableName,
  chains: [
    {
      name: 'keep-conntrack',
      rules: [
        {
          statements: [
            { kind: 'match', left: 'ct state', op: '==', value: { bits: ctStateBits.invalid } },
            { kind: 'return' },
          ],
        },
      ],
    },
    { name: 'prerouting', hook: { type: 'nat', hook: 'prerouting', priority: -100 }, rules: [] },
    { name: 'input', hook: { type: 'nat', hook: 'input', priority: 100 }, rules: [] },
    { name: 'output', hook: { type: 'nat', hook: 'output', priority: -100 }, rules: [] },
    { name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: 100 }, rules: [] },
  ],
  sets: [],
  elements: new Map(),
}
