/**
 * What goes over the control socket about names:
 *
 *     GET /dns/top?limit=N                          DnsTopView
 *     GET /dns/explain?name=NAME&type=A&from=POD    DnsExplanationView
 *     GET /dns/log?client=&name=&type=&rcode=&oneIn=   one JSON object (LoggedQuery) a line, for ever
 */

/** `GET /dns/top` */
export interface DnsTopView {
  /** How long was counted: five to ten minutes. */
  readonly seconds: number
  readonly queries: number
  /** Of these, those that were NXDOMAIN. */
  readonly notExisting: number
  /** The most frequent first; counts are estimates. */
  readonly names: readonly { readonly name: string; readonly count: number }[]
  readonly missing: readonly { readonly name: string; readonly count: number }[]
  readonly clients: readonly { readonly client: string; readonly pod: string | undefined; readonly count: number }[]
}

/** `GET /dns/explain` */
export interface DnsExplanationView {
  readonly name: string
  readonly type: string
  /** `shop/web-1`, or an address; undefined: the node itself. */
  readonly from: string | undefined
  readonly client: string
  /** The domains of the client's search path; empty: names are asked as they are. */
  readonly search: readonly string[]
  readonly outcome: 'found' | 'no-records' | 'no-such-name' | 'failed'
  /** Questions in the order in which the client asks them, up to the one that ends it. */
  readonly questions: readonly DnsQuestionView[]
  /** How old the data of the cluster may be. */
  readonly data: string
}

/** One question of an explanation. */
export interface DnsQuestionView {
  readonly name: string
  readonly rcode: string
  /** `kubernetes`, `cache`, `forward`, `hosts`, ...; empty: the server itself. */
  readonly by: string
  /** Which resolver said it. */
  readonly via: string | undefined
  /** Seconds that it was remembered. */
  readonly ageSeconds: number | undefined
  readonly records: readonly string[]
  /** The object behind the name. */
  readonly object: string | undefined
  readonly why: readonly string[]
  /** The extended error that the client is told. */
  readonly error: string | undefined
}
