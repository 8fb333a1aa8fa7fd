import type { ManifestReader } from '../model/manifest-reader.ts'
import { parseNetwork, type Cidr } from '../net/cidr.ts'
import { ParseError } from '../net/parse-error.ts'
import { parseListen, type ListenAddress } from './listen-address.ts'

/** The embedded API server. */
export interface ApiConfig {
  /** Nobody asked for it by `api.enabled`: it gives way to an API server that is followed. */
  readonly byDefault: boolean
  /** Where kubectl reaches it, over TLS with a token. Default `127.0.0.1:6443`. */
  readonly listen: ListenAddress
  /** For `fairlead get` and the like: whoever may open it may do everything; mode 0600. Undefined: `api.sock` beside the control socket. */
  readonly socket: string | undefined
  /** Further names and addresses of this machine, for the certificate. */
  readonly names: readonly string[]
  /** Networks that Services of type LoadBalancer get their outside addresses from. */
  readonly loadBalancerCIDRs: readonly Cidr[]
}

/** The embedded API server cannot start; the message is for the user. */
export class ControlPlaneError extends Error {
  override readonly name = 'ControlPlaneError'
}

/** The keys of `api`. */
export const apiKeys = { enabled: true, listen: true, socket: true, names: true, loadBalancerCIDRs: true } as const

/** Reads `api`; undefined where it is not enabled. A daemon that follows an API server has none of its own by default. */
export function readApi(
  reader: ManifestReader,
  options: { readonly absolute: (text: string) => string; readonly followsOther: boolean },
): ApiConfig | undefined {
  const enabled = reader.boolean('enabled')
  const api: ApiConfig = {
    byDefault: enabled === undefined,
    listen: reader.parsedText('listen', parseListen) ?? { host: '127.0.0.1', port: 6443 },
    socket: reader.parsedText('socket', options.absolute),
    names: reader.parsedTexts('names', parseHost),
    loadBalancerCIDRs: reader.parsedTexts('loadBalancerCIDRs', parseNetwork),
  }
  return (enabled ?? !options.followsOther) ? api : undefined
}

function parseHost(text: string): string {
  if (/^[0-9a-zA-Z]([0-9a-zA-Z.:-]*[0-9a-zA-Z:])?$/.test(text)) return text
  throw new ParseError(`${JSON.stringify(text)} is not a host name or an IP address`)
}
