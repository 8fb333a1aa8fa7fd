/** What mode ipvs does not do as the others, each with its reason. */
export const ipvsLimits = {
  localAffinity:
    'externalTrafficPolicy Local with session affinity: where this node has endpoints, its own pods and processes get only these too, unless the endpoints have the same port as the Service (IPVS changes no port where a mark and persistence meet)',
  affinityByAddress:
    'session affinity: clients are remembered by address and port of the Service, so a pod may differ between its addresses and ports',
  affinityLingers:
    'session affinity: a client is remembered as long as one of its connections lingers, two minutes for a closed one (TIME_WAIT), whatever the timeout',
  affinityAnew: 'session affinity: after another mode, clients are chosen anew',
  otherPorts:
    'other ports of load balancer and external IPs are refused, since these are addresses of this machine: where the host is to answer there, give it the address on a device of its own',
  udpPolicy:
    'UDP: a client outside that keeps its socket stays with its endpoint when externalTrafficPolicy becomes Local, as long as pods have that endpoint, until it is silent for IPVS’s UDP timeout (five minutes)',
  removedEnds:
    'connections end when their Service, or the port or address of it that they are at, is removed, and those of clients outside when externalTrafficPolicy becomes Cluster: they live in its virtual server',
  dhEnds:
    'scheduler dh: connections end with their endpoint, since there is no other one for clients of the address while it drains',
  modeSwitch: 'connections that this mode made end when another mode takes over',
} as const
