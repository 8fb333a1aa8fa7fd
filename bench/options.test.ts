import { describe, expect, test } from 'vitest'
import { parseOptions, type BenchOptions } from './options.ts'

const known = { suites: ['connect', 'program'], out: 'out' }
const parse = (...argv: string[]): BenchOptions => {
  const options = parseOptions(argv, known)
  if (options === 'help') throw new Error('help')
  return options
}

describe('parseOptions', () => {
  test.each([
    { argv: ['conect'], message: 'unknown suite conect: expected connect, program, all' },
    { argv: ['--modes', 'nftables,ebpf'], message: '--modes ebpf: expected nftables, iptables-legacy' },
    { argv: ['--modes', 'ipvs,ipvs'], message: '--modes ipvs,ipvs: ipvs is named twice' },
    {
      argv: ['--services', '10,300000'],
      message:
        '--services 300000: expected a whole number from 0 to 200000, which is what the address plan has room for',
    },
    { argv: ['--services', '1e3'], message: '--services 1e3: expected a whole number from 0 to 200000' },
    { argv: ['--services', ''], message: '--services : expected a whole number' },
    { argv: ['--endpoints', '0'], message: '--endpoints 0: expected a whole number from 1 to 1000' },
    {
      argv: ['--services', '100000', '--endpoints', '100'],
      message: '100000 Services x 100: the address plan has room for 8000000 endpoints',
    },
    { argv: ['--rounds', '-1'], message: '--rounds' },
    { argv: ['--quick', '--full'], message: '--quick and --full: expected one of them' },
    { argv: ['--fast'], message: "Unknown option '--fast'" },
    { argv: ['--peer', 'direct=sleep 1'], message: 'direct is the name of a mode' },
    { argv: ['--peer', 'proxy -a', '--peer', '/bin/proxy -b'], message: '--peer: two are called proxy; write NAME=' },
    {
      argv: ['--modes', 'nftables,direct', '--services', Array.from({ length: 129 }, (_, n) => n).join(',')],
      message: '129 sizes of 2 modes are 258 nodes at once: the address plan has room for 256',
    },
  ])('refuses $argv', ({ argv, message }) => {
    expect(() => parse(...argv)).toThrow(message)
  })

  test('sorts sizes, and takes 0', () => {
    expect(parse('--services', '1000,0,10').services).toEqual([0, 10, 1000])
  })

  test('takes all for every suite', () => {
    expect(parse('all').suites).toEqual(['connect', 'program'])
  })

  test.each([
    {
      text: 'kp=kube-proxy --kubeconfig=$KUBECONFIG',
      peer: { name: 'kp', command: 'kube-proxy --kubeconfig=$KUBECONFIG' },
    },
    { text: '/opt/bin/kube-proxy --v=2', peer: { name: 'kube-proxy', command: '/opt/bin/kube-proxy --v=2' } },
  ])('names the peer of $text', ({ text, peer }) => {
    expect(parse('--peer', text).peers).toEqual([peer])
  })

  test('measures without iptables-nft with --quick, unless it is named', () => {
    expect(parse('--quick').modes).not.toContain('iptables-nft')
    expect(parse('--quick', '--modes', 'iptables-nft')).toMatchObject({ modes: ['iptables-nft'], modesNamed: true })
  })
})
