import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { diffDockerUser, dockerBridges, dockerUserRules } from './docker-user.ts'

const mark = '-m comment --comment fairlead'
const wanted = dockerUserRules(['fl0'], ['docker0'])
const ours = wanted.map((rule) => `-A DOCKER-USER ${rule}`)
const admins = '-A DOCKER-USER -s 198.51.100.7/32 -i eth0 -j DROP'
const closing = '-A DOCKER-USER -j RETURN'

function listing(...rules: readonly string[]): string {
  return ['-P FORWARD DROP', '-N DOCKER-USER', '-A FORWARD -j DOCKER-USER', ...rules, ''].join('\n')
}

/** What iptables would make of a chain. */
function applyTo(chain: string, commands: readonly (readonly string[])[]): string {
  const rules = chain.split('\n').filter((line) => line.startsWith('-A DOCKER-USER '))
  for (const [verb, , ...words] of commands) {
    const place = verb === '-I' ? Number(words.shift()) : 0
    const rule = `-A DOCKER-USER ${words.join(' ')}`
    if (verb === '-I') {
      if (place < 1 || place > rules.length + 1) throw new Error(`index of insertion too big: ${place}`)
      rules.splice(place - 1, 0, rule)
    } else {
      if (!rules.includes(rule)) throw new Error(`does a matching rule exist in that chain? ${rule}`)
      rules.splice(rules.indexOf(rule), 1)
    }
  }
  return listing(...rules)
}

describe('dockerUserRules()', () => {
  test('dockerUserRules() leave it to Docker which of its ports our pods reach', () => {
    expect(wanted).toEqual([
      `-o fl0 ${mark} -j ACCEPT`,
      `-i fl0 -o docker0 ${mark} -j RETURN`,
      `-i fl0 ${mark} -j ACCEPT`,
    ])
  })
})

test('dockerUserRules() lets connections to Services through to containers first', () => {
  expect(dockerUserRules(['fl0'], ['docker0'], { ranges: ['10.96.0.0/12'], nodePorts: true })).toEqual([
    `-m conntrack --ctstate DNAT --ctorigdst 10.96.0.0/12 ${mark} -j ACCEPT`,
    `-m conntrack --ctstate DNAT --ctorigdstport 30000:32767 ${mark} -j ACCEPT`,
    ...wanted,
  ])
})

describe('dockerBridges()', () => {
  test.each([
    [
      '20.10',
      '-A FORWARD ! -o eth7 -j ACCEPT\n-A DOCKER-USER -o eth8 -j DROP\n-A FORWARD -o docker0 -j DOCKER\n-A DOCKER-ISOLATION-STAGE-1 ! -s 172.18.0.0/16 -o br-1 -j DROP\n',
    ],
    [
      '28',
      '-A DOCKER ! -i docker0 -o docker0 -j DROP\n-A DOCKER-BRIDGE -o docker0 -j DOCKER\n-A DOCKER-BRIDGE -o br-1 -j DOCKER\n',
    ],
  ])('dockerBridges() finds those of Docker %s', (_, text) => {
    expect(dockerBridges(text)).toEqual(['br-1', 'docker0'])
  })
})

describe('diffDockerUser()', () => {
  const whole = listing(admins, ...ours, closing)
  const inserts = wanted.map((rule, index) => ['-I', 'DOCKER-USER', `${index + 2}`, ...rule.split(' ')])
  test.each([
    { name: 'leaves what is right alone', from: whole, commands: [] },
    { name: 'does nothing without Docker', from: '-P FORWARD DROP\n', commands: [] },
    {
      name: "inserts after other people's rules, before the RETURN",
      from: listing(admins, closing),
      commands: inserts,
    },
    { name: 'inserts at the end where no RETURN is', from: listing(admins), commands: inserts },
    {
      name: 'adds only what is missing',
      from: listing(admins, ...ours.toSpliced(1, 1), closing),
      commands: inserts.slice(1, 2),
    },
    {
      name: 'removes only what is too much',
      from: listing(admins, `-A DOCKER-USER -o fl9 ${mark} -j ACCEPT`, ...ours, closing),
      commands: [['-D', 'DOCKER-USER', '-o', 'fl9', ...mark.split(' '), '-j', 'ACCEPT']],
    },
    {
      name: 'never touches rules of others that say the same',
      from: listing('-A DOCKER-USER -o fl0 -j ACCEPT', ...ours, closing),
      commands: [],
    },
  ])('diffDockerUser() $name', ({ from, commands }) => {
    expect(diffDockerUser(from, wanted)).toEqual(commands)
  })

  test('diffDockerUser() takes everything of ours away when nothing is wanted', () => {
    expect(applyTo(whole, diffDockerUser(whole, []))).toBe(listing(admins, closing))
  })

  test('diffDockerUser() brings any chain to the wanted one, and keeps the rules of others in order', () => {
    const foreign = [admins, '-A DOCKER-USER -i eth1 -j ACCEPT']
    const stale = `-A DOCKER-USER -i fl9 ${mark} -j ACCEPT`
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...foreign, ...ours, stale), { maxLength: 9 }),
        fc.boolean(),
        (rules, closed) => {
          const from = listing(...rules, ...(closed ? [closing] : []))
          const to = applyTo(from, diffDockerUser(from, wanted))
          const others = rules.filter((rule) => foreign.includes(rule))
          expect(to).toBe(listing(...others, ...ours, ...(closed ? [closing] : [])))
          expect(diffDockerUser(to, wanted)).toEqual([])
        },
      ),
    )
  })
})
