import { describe, expect, it } from 'vitest'
import type { Endpoint } from '../model/endpoint-slice.ts'
import { exampleService, exampleSlice } from './example-objects.ts'
import { selectEndpoints, type NodeFacts, type ServiceEndpoint } from './select-endpoints.ts'

const service = exampleService('web')
const here: NodeFacts = { name: 'this-node', zone: 'zone-a', addresses: [] }
const port = { portName: '', protocol: 'tcp', family: 4 } as const

type Row = { address: string } & Partial<Omit<Endpoint, 'address'>>
const draining = { ready: false, serving: true, terminating: true }
const dead = { ready: false, serving: false, terminating: true }
const unready = { ready: false, serving: false, terminating: false }
const onThisNode = { nodeName: 'this-node' }
const hints = (zones: string[], nodes: string[] = []) => ({ hints: { zones, nodes } })

const text = ({ ip, weight }: ServiceEndpoint): string => `${ip}${weight === undefined ? '' : `*${weight}`}`

interface Case {
  name: string
  endpoints: (string | Row)[]
  node?: NodeFacts
  cluster: string[]
  local: string[]
  any?: boolean
}

const cases: Case[] = [
  {
    name: 'ready endpoints of every node, and of this node for policy Local',
    endpoints: ['10.0.0.2', { address: '10.0.0.1', ...onThisNode }],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: ['10.0.0.1'],
  },
  {
    name: 'an address of this node’s pod that terminates, which a new pod of another node has: the new one counts',
    endpoints: ['10.0.0.1', { address: '10.0.0.1', ...onThisNode, ...draining }, '10.0.0.2'],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: [],
  },
  { name: 'nothing at all', endpoints: [], cluster: [], local: [], any: false },
  {
    name: 'an endpoint that is not ready',
    endpoints: [{ address: '10.0.0.1', ...unready }],
    cluster: [],
    local: [],
    any: false,
  },
  {
    name: 'a terminating one beside a ready one is left alone',
    endpoints: ['10.0.0.1', { address: '10.0.0.2', ...draining }],
    cluster: ['10.0.0.1'],
    local: [],
  },
  {
    name: 'only terminating ones: those that still serve',
    endpoints: [
      { address: '10.0.0.1', ...draining },
      { address: '10.0.0.2', ...dead },
    ],
    cluster: ['10.0.0.1'],
    local: [],
  },
  {
    name: 'weights are kept, and an endpoint of weight 0 counts as not being there, for hints too',
    endpoints: [
      { address: '10.0.0.1', weight: 3, ...hints(['zone-a']), ...onThisNode },
      { address: '10.0.0.2', weight: 0, ...onThisNode },
    ],
    cluster: ['10.0.0.1*3'],
    local: ['10.0.0.1*3'],
  },
  {
    name: 'only endpoints of weight 0',
    endpoints: [{ address: '10.0.0.1', weight: 0 }],
    cluster: [],
    local: [],
    any: false,
  },
  { name: 'only dead ones', endpoints: [{ address: '10.0.0.1', ...dead }], cluster: [], local: [], any: false },
  {
    name: 'policy Local falls back to this node’s terminating one while another node has a ready one',
    endpoints: [{ address: '10.0.0.1', ...draining, ...onThisNode }, '10.0.2.1'],
    cluster: ['10.0.2.1'],
    local: ['10.0.0.1'],
  },
  {
    name: 'zone hints on every endpoint narrow the cluster set, not the local one',
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-a']) },
      { address: '10.0.0.2', ...hints(['zone-b']), ...onThisNode },
    ],
    cluster: ['10.0.0.1'],
    local: ['10.0.0.2'],
  },
  {
    name: 'one endpoint without a hint switches zone hints off',
    endpoints: [{ address: '10.0.0.1', ...hints(['zone-a']) }, '10.0.0.2'],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: [],
  },
  {
    name: 'an endpoint without a hint that is not ready does not count',
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-a']) },
      { address: '10.0.0.2', ...hints(['zone-b']) },
      { address: '10.0.0.3', ...unready },
    ],
    cluster: ['10.0.0.1'],
    local: [],
  },
  {
    name: 'hints for other zones only are as good as none',
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-b']) },
      { address: '10.0.0.2', ...hints(['zone-c']) },
    ],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: [],
  },
  {
    name: 'a node without a zone ignores zone hints',
    node: { name: 'this-node', zone: undefined, addresses: [] },
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-a']) },
      { address: '10.0.0.2', ...hints(['zone-b']) },
    ],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: [],
  },
  {
    name: 'a hint for this node goes before hints for its zone',
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-a'], ['this-node']) },
      { address: '10.0.0.2', ...hints(['zone-a'], ['other-node']) },
    ],
    cluster: ['10.0.0.1'],
    local: [],
  },
  {
    name: 'node hints for other nodes only leave the zone to decide',
    endpoints: [
      { address: '10.0.0.1', ...hints(['zone-a'], ['third-node']) },
      { address: '10.0.0.2', ...hints(['zone-b'], ['other-node']) },
    ],
    cluster: ['10.0.0.1'],
    local: [],
  },
  {
    name: 'hints are not applied to terminating endpoints',
    endpoints: [
      { address: '10.0.0.1', ...draining, ...hints(['zone-a']) },
      { address: '10.0.0.2', ...draining, ...hints(['zone-b']) },
    ],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: [],
  },
]

describe('selectEndpoints', () => {
  it.each(cases)('chooses: $name', ({ endpoints, node = here, cluster, local, any = true }) => {
    const slice = exampleSlice(service, endpoints)
    const choice = selectEndpoints([slice], port, node)
    expect(choice.cluster.map(text)).toEqual(cluster)
    expect(choice.local.map(text)).toEqual(local)
    expect(choice.any).toBe(any)
  })

  it('finds the port number by the port’s name in each slice', () => {
    const slices = [
      exampleSlice(service, ['10.0.0.1'], { name: 'a', ports: ['web=8081/tcp', 'admin=9000/tcp'] }),
      exampleSlice(service, ['10.0.0.2'], { name: 'b', ports: ['web=9081/tcp'] }),
      exampleSlice(service, ['10.0.0.3'], { name: 'c', ports: ['web=53/udp'] }),
    ]
    const { cluster } = selectEndpoints(slices, { ...port, portName: 'web' }, here)
    expect(cluster).toEqual([
      { ip: '10.0.0.1', port: 8081 },
      { ip: '10.0.0.2', port: 9081 },
    ])
  })

  it('ignores slices with the headless label', () => {
    const headless = { ...exampleSlice(service, ['10.0.0.1'], { name: 'a' }), headless: true as const }
    const { cluster } = selectEndpoints([headless, exampleSlice(service, ['10.0.0.2'], { name: 'b' })], port, here)
    expect(cluster).toEqual([{ ip: '10.0.0.2', port: 8080 }])
  })

  it('ignores slices of the other family', () => {
    const { any } = selectEndpoints([exampleSlice(service, ['fd00::1'])], port, here)
    expect(any).toBe(false)
  })

  it.each([[[0, 1]], [[1, 0]]])(
    'counts a repeated address once, as this node’s if any slice says so (order %j)',
    (order) => {
      const slices = [
        exampleSlice(service, ['10.0.0.1'], { name: 'a' }),
        exampleSlice(service, [{ address: '10.0.0.1', ...onThisNode }], { name: 'b' }),
      ]
      const choice = selectEndpoints(
        order.map((i) => slices[i]!),
        port,
        here,
      )
      expect(choice.cluster).toHaveLength(1)
      expect(choice.local).toHaveLength(1)
    },
  )

  it('counts this node’s ready endpoints for health checks without terminating ones', () => {
    const slice = exampleSlice(service, [
      { address: '10.0.0.1', ...draining, ...onThisNode },
      { address: '10.0.0.2', ...onThisNode },
      '10.0.0.3',
    ])
    expect(selectEndpoints([slice], port, here).readyHere).toHaveLength(1)
  })
})
