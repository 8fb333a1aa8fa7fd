import { describe, expect, test } from 'vitest'
import { nameText } from '../dns-message/name.ts'
import type { Corefile } from './corefile.ts'
import { parseCorefile } from './parse-corefile.ts'

function parse(
  text: string,
  { files = {}, env = {} }: { files?: Record<string, string>; env?: Record<string, string> } = {},
): Corefile {
  return parseCorefile(text, {
    file: 'Corefile',
    env,
    path: (path) => `/etc/coredns/${path}`.replace(/^\/etc\/coredns\/\//, '/'),
    importFiles: (pattern) => (files[pattern] === undefined ? [] : [{ file: pattern, text: files[pattern] }]),
  })
}

/** As kubeadm 1.36 writes it. */
const kubeadm = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`

describe('parseCorefile()', () => {
  test("parseCorefile() takes kubeadm's file as it is", () => {
    const { blocks, notes } = parse(kubeadm)
    expect(blocks).toHaveLength(1)
    const [block] = blocks
    expect(block?.zones.map(nameText)).toEqual(['.'])
    expect(block).toMatchObject({
      port: 53,
      bind: undefined,
      health: { listen: { host: undefined, port: 8080 }, lameduckMs: 5000 },
      ready: { host: undefined, port: 8181 },
      prometheus: { host: undefined, port: 9153 },
      errors: true,
      reload: { intervalMs: 30_000, jitterMs: 15_000 },
      kubernetes: { pods: 'insecure', ttl: 30, kubeconfig: undefined },
      forwards: [{ resolvConf: '/etc/resolv.conf', maxConcurrent: 1000, policy: 'random', upstreams: [] }],
      cache: {
        success: { capacity: 9984, ttl: 30 },
        denial: { capacity: 9984, ttl: 30 },
        prefetch: false,
        serveStale: 0,
      },
    })
    expect(block?.kubernetes?.reverseZones.map(nameText)).toEqual(['in-addr.arpa.', 'ip6.arpa.'])
    expect(notes).toEqual([
      expect.stringMatching(/^Corefile:20: loop is not as in CoreDNS: loops are found/),
      expect.stringMatching(/^Corefile:22: loadbalance is not as in CoreDNS: /),
    ])
  })

  test('parseCorefile() reads snippets, imports, variables, quotes, comments and several blocks', () => {
    const { blocks } = parse(
      `
# ours
(common) {
  errors   # of forwarding
  log . "{remote} {name}"
}
example.org:1053, example.net:1053 {
  import common
  import more.conf
  bind lo {$EXTRA}
}
10.0.0.0/8 dns://.:1053 {
  hosts {
    192.0.2.7 nas.home nas
    fallthrough home
  }
}`,
      {
        files: { 'more.conf': 'forward . tls://9.9.9.9%dns.quad9.net \\\n  10.0.0.53:5353' },
        env: { EXTRA: '127.0.0.2' },
      },
    )
    expect(blocks.map(({ port, zones }) => [port, ...zones.map(nameText)])).toEqual([
      [1053, 'example.org.', 'example.net.'],
      [53, '10.in-addr.arpa.'],
      [1053, '.'],
    ])
    expect(blocks[0]).toMatchObject({
      errors: true,
      bind: [{ on: ['lo', '127.0.0.2'], except: [] }],
      forwards: [
        {
          upstreams: [
            { key: 'tls://9.9.9.9#dns.quad9.net', port: 853, tls: { serverName: 'dns.quad9.net' } },
            { key: '10.0.0.53:5353' },
          ],
        },
      ],
    })
    expect(blocks[2]?.hosts).toMatchObject({ file: undefined, ttl: 3600, reverse: true })
  })

  test('parseCorefile() notes what is not as in CoreDNS', () => {
    const { notes } = parse(
      '. {\n cache 30 example.org {\n  servfail 1s\n }\n forward . 10.0.0.1 {\n  max_fails 3\n }\n}',
    )
    expect(notes).toEqual([
      expect.stringMatching(/^Corefile:2: cache is not as in CoreDNS: its zones do not limit/),
      expect.stringMatching(/^Corefile:3: servfail is not as in CoreDNS: /),
      expect.stringMatching(/^Corefile:6: max_fails is not as in CoreDNS: the health of resolvers/),
    ])
  })

  test('parseCorefile() reads a file without braces', () => {
    expect(parse('example.org:1053\nlog\nforward . 10.0.0.1').blocks).toMatchObject([{ port: 1053, forwards: [{}] }])
  })

  test.each([
    ['rewrite name a.example b.example', { match: 'exact', from: 'a.example', to: 'b.example', goesOn: false }],
    ['rewrite continue name suffix .a. .b. answer auto', { match: 'suffix', from: '.a.', to: '.b.', goesOn: true }],
    ['rewrite name exact prefix b.example', { match: 'exact', from: 'prefix', to: 'b.example' }],
    [
      'rewrite stop {\n name regex (.*)\\.a {1}.b\n answer name (.*)\\.b {1}.a\n answer value (.*)\\.b {1}.a\n}',
      { match: 'regex', answers: [{ part: 'name', to: '{1}.a' }, { part: 'value' }] },
    ],
  ])('parseCorefile() reads %s', (text, rule) => {
    expect(parse(`. {\n${text}\n}`).blocks[0]?.rewrites).toMatchObject([rule])
  })

  test.each([
    ['. {\n errors\n etcd /skydns\n}', /^Corefile:3: plugin "etcd" is not supported \(supported are errors, health/],
    ['. {\n toString\n}', /^Corefile:2: plugin "toString" is not supported/],
    [
      '. {\n kubernetes cluster.local {\n  pods maybe\n }\n}',
      /^Corefile:3: pods: "maybe" is no way to name pods \(expected disabled, insecure, verified\)/,
    ],
    ['. {\n kubernetes cluster.local {\n  ttl 3601\n }\n}', /^Corefile:3: ttl: "3601" is not a number from 0 to 3600/],
    [
      '. {\n kubernetes cluster.local {\n  endpoint http://x\n }\n}',
      /^Corefile:3: unknown option "endpoint" \(known are kubeconfig/,
    ],
    ['. {\n kubernetes in-addr.arpa\n}', /^Corefile:2: kubernetes: has reverse zones only/],
    ['. {\n forward .\n}', /^Corefile:2: forward: 1 words follow \(expected forward FROM TO\.\.\.\)/],
    ['. {\n forward . not-an-address\n}', /^Corefile:2: forward: "not-an-address" is not a resolver/],
    ['. {\n health {\n  lameduck soon\n }\n}', /^Corefile:3: lameduck: "soon" is not a duration/],
    ['. {\n prometheus nine\n}', /^Corefile:2: prometheus: "nine" is not an address to listen on/],
    ['. {\n rewrite ttl example.org 5\n}', /^Corefile:2: rewrite: "ttl" cannot be rewritten here/],
    ['. {\n rewrite name regex ( x\n}', /^Corefile:2: rewrite: "\(" is not a regular expression/],
    [
      '. {\n acl {\n  drop net 10.0.0.0/8\n }\n}',
      /^Corefile:3: unknown option "drop" \(known are allow, block, filter\)/,
    ],
    ['. {\n errors', /^Corefile:2: a "}" is missing/],
    ['. {\n errors\n}\n}', /^Corefile:4: unexpected "}"/],
    ['tls://. {\n}', /^Corefile:1: "tls:\/\/\.": servers of tls are not supported/],
    ['.:99999 {\n}', /^Corefile:1: ".:99999": port 99999 is not from 1 to 65535/],
    ['10.0.0.0/9 {\n}', /^Corefile:1: "10.0.0.0\/9" is no zone: "10.0.0.0\/9" is no single reverse zone/],
    ['. {\n import nothing\n}', /^Corefile:2: import "nothing": there is no such snippet and no such file/],
    ['. {\n}\n.:53 {\n}', /^Corefile:3: the server block of line 1 has the same zone and port/],
    ['. {\n autopath @kubernetes\n}', /^Corefile:1: autopath @kubernetes needs the plugin kubernetes/],
    ['', /^Corefile:1: there is no server block/],
  ])('parseCorefile() refuses %j', (text, message) => {
    expect(() => parse(text)).toThrow(message)
  })
})
