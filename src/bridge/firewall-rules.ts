/**
 * The rules of the bridge networks in the kernel: masquerade, published ports, who reaches pods, and who may send what. Made of
 * networks and leases as they are at the moment; `nftables-firewall.ts` and `iptables-firewall.ts` are the two ways.
 */
export interface FirewallRules extends AsyncDisposable {
  /** How often something that another program changed was put back. */
  readonly repairs: number
  /** Reads what is there and makes it what it should be; what is right is left alone. Throws NftablesError, IptablesError. */
  sync(): Promise<void>
  /** Writes what has changed since, without reading. Resolves when the kernel has it. Throws NftablesError, IptablesError. */
  update(): Promise<void>
  /** Repairs what other programs change, from now on. */
  follow(): void
}
