/** The bytes, as hexadecimal digits, of each write that `strace -e write=all` shows: ` | 00000  28 00 00 00 ...  (... |`. */
export function datagrams(trace: string): string[] {
  const found: string[] = []
  for (const line of trace.split('\n')) {
    const dump = /^ \| ([0-9a-f]{5})  ((?:[0-9a-f]{2} {1,2})+)/.exec(line)
    if (!dump) continue
    const bytes = dump[2]?.replaceAll(' ', '') ?? ''
    if (dump[1] === '00000') found.push(bytes)
    else found.push(`${found.pop() ?? ''}${bytes}`)
  }
  return found
}
