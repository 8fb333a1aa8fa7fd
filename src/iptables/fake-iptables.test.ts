import { expect, test } from 'vitest'
import { testIptablesClient } from '../../test/contract/iptables-client.ts'
import { FakeIptables } from './fake-iptables.ts'

testIptablesClient(() => Promise.resolve({ client: new FakeIptables(4), [Symbol.dispose]: () => {} }))

test('FakeIptables applies what somebody else would restore', async () => {
  const fake = new FakeIptables(4)
  fake.apply('*nat\n:OTHERS - [0:0]\n-A OUTPUT -j OTHERS\nCOMMIT\n')
  expect((await fake.save()).get('nat')?.get('OUTPUT')).toEqual(['-j OTHERS'])
})
