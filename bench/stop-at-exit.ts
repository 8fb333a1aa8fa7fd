const stops = new Set<() => void>()

function stopAll(): void {
  for (const stop of stops) stop()
}

/**
 * Calls `stop` when the process ends, before its folder is removed (clear-up.ts), unless the result is called before. One listener,
 * however many daemons there are: Node warns of more than ten.
 */
export function stopAtExit(stop: () => void): () => void {
  if (!process.listeners('exit').includes(stopAll)) process.prependListener('exit', stopAll)
  stops.add(stop)
  return () => void stops.delete(stop)
}
