/** What bin/fairlead starts Node with: processes that stand for the daemon have the same. */
export const launcherFlags = ['--max-semi-space-size=4', '--expose-gc'] as const
