import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog } from '../../src/base/log.ts'
import { createDnsServer } from '../../src/dns/server.ts'
import { parseManifest, type ManifestObject } from '../../src/model/parse-manifest.ts'
import { emptySnapshot, type Snapshot } from '../../src/model/snapshot.ts'
import { type IpAddress, ipFamilyOf, parseIp } from '../../src/net/ip-address.ts'
import { editSnapshot } from '../../src/sources/edit-snapshot.ts'
import type { FlowResult } from '../conformance/report.ts'
import { checkReply } from './check-reply.ts'
import { ask } from './dns-client.ts'
import type { CaseQuery, DnsCase, DnsStep, Manifest } from './dns-case.ts'
import { StubUpstream } from './stub-upstream.ts'

/** Where the server under test and the stub resolver listen: addresses of the runner's own network namespace. */
export const serverAddresses: readonly IpAddress[] = [parseIp('10.96.0.10'), parseIp('fd00:96::a')]
const stubAddress = { address: '127.0.0.1', port: 53 }

/** Runs the queries of a case against a server of its own, one after the other. */
export async function* runDnsCase(dnsCase: DnsCase): AsyncGenerator<FlowResult> {
  const { file, title, config } = dnsCase
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-dns-'))
  try {
    const resolvConf = join(folder, 'resolv.conf')
    writeFileSync(resolvConf, `nameserver ${stubAddress.address}\n`)
    await using _stub = await StubUpstream.open(config.upstream, stubAddress)
    const queries = dnsCase.steps.flatMap((step) => step.queries)
    // IPv6 only where it is asked over, so that the server's own name has the address that it has elsewhere.
    const addresses = serverAddresses.filter((ip) => ipFamilyOf(ip) === 4 || queries.some((query) => isOver6(query)))
    await using server = createDnsServer({
      addresses,
      zone: config.zone,
      ttl: config.ttl,
      pods: config.pods,
      resolvConf,
      resolvedConf: join(folder, 'none'),
      version: 'fairlead',
      log: silentLog,
    })
    await server.listen()
    const objects = new CaseObjects()
    objects.apply(dnsCase.objects)
    for (const step of dnsCase.steps) {
      objects.apply(step.apply)
      objects.delete(step.delete)
      server.update(objects.snapshot, config.synced)
      for (const query of step.queries) {
        const port = 53
        const address = addresses.find((ip) => (ipFamilyOf(ip) === 6) === isOver6(query)) ?? parseIp('10.96.0.10')
        const difference = checkReply(query, await ask(query, { address, port }))
        const where = { file, title, step: step.name, flow: query.label }
        yield difference ? { result: 'not ok', ...where, ...difference } : { result: 'ok', ...where }
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function isOver6(query: CaseQuery): boolean {
  return query.client !== undefined && ipFamilyOf(query.client) === 6
}

/** The objects of a case as a source hands them on. What the model refuses is not there, as in the daemon. */
class CaseObjects {
  readonly #objects = new Map<string, ManifestObject>()
  snapshot: Snapshot = emptySnapshot

  apply(manifests: readonly Manifest[]): void {
    for (const manifest of manifests) this.#set(keyOf(manifest.kind, manifest.metadata), manifest)
  }

  delete(deletions: DnsStep['delete']): void {
    for (const deletion of deletions) this.#set(keyOf(deletion.kind, deletion), undefined)
  }

  #set(key: string, manifest: Manifest | undefined): void {
    const before = this.#objects.get(key)
    const parsed = manifest && parseManifest(manifest).find((result) => result.kind === 'object')
    const after = parsed?.object
    if (after) this.#objects.set(key, after)
    else this.#objects.delete(key)
    this.snapshot = editSnapshot(this.snapshot, [{ before, after }])
  }
}

function keyOf(kind: string, { namespace, name }: { readonly namespace?: string; readonly name: string }): string {
  const scope = kind === 'Namespace' ? '' : namespace === undefined || namespace === '' ? 'default' : namespace
  return `${kind} ${scope}/${name}`
}
