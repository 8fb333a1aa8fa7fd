/** What a lab listener tells whoever connects. */
export interface Greeting {
  /** Who answers. */
  readonly reply: string
  /** The client's address as the listener saw it. */
  readonly source: string
  readonly sourcePort: number
}

/** Why a connection attempt brought no answer. `refused`: RST, or ICMP port unreachable. `unreachable`: other ICMP errors, no route. */
export type Failure = 'refused' | 'timeout' | 'unreachable' | 'reset'

interface Target {
  readonly address: string
  readonly port: number
  /** Milliseconds. */
  readonly timeout: number
  readonly sourceAddress?: string
  readonly sourcePort?: number
}

interface Listening {
  readonly port: number
  readonly address?: string
  readonly reply: string
}

/** What the agent thread is asked to do, in the namespace that the call comes with. */
export type AgentCall =
  | ({ readonly kind: 'listen-tcp' } & Listening)
  | ({ readonly kind: 'listen-udp' | 'listen-sctp' } & Listening)
  /** `reset`: by RST instead of FIN. */
  | { readonly kind: 'close'; readonly handle: number; readonly reset?: boolean }
  | ({ readonly kind: 'connect-tcp'; readonly keep: boolean } & Target)
  | ({ readonly kind: 'ask-sctp' } & Target)
  /** With `handle`, from the socket that an earlier call with `keep` left. */
  | ({ readonly kind: 'ask-udp'; readonly keep: boolean; readonly handle?: number } & Target)
  | { readonly kind: 'echo'; readonly handle: number; readonly text: string; readonly timeout: number }

export interface AgentReply {
  /** Of a listener or a kept connection. */
  readonly handle?: number
  readonly port?: number | undefined
  readonly greeting?: Greeting
  /** The address of ours that the attempt was made from, as we see it. */
  readonly ownAddress?: string | undefined
  readonly failure?: Failure
}
