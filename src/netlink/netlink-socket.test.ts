import { describe, expect, test, vi } from 'vitest'
import { AttributeWriter } from './attribute-writer.ts'
import { NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, type NetlinkMessage } from './message.ts'
import { isAlreadyExists, NetlinkError, NetlinkSocketError } from './netlink-error.ts'
import { NetlinkSocket, type NetlinkBatch, type NetlinkRequest } from './netlink-socket.ts'
import { runAll } from './run-all.ts'
import { ScriptedKernel, type ScriptedHandler } from './scripted-kernel.ts'

const question: NetlinkRequest = { name: 'ask', type: 18, payload: Buffer.from('question') }

function open(handler: ScriptedHandler): { kernel: ScriptedKernel; socket: NetlinkSocket } {
  const kernel = new ScriptedKernel(handler)
  return { kernel, socket: new NetlinkSocket(kernel) }
}

const textOf = (messages: readonly NetlinkMessage[]): string[] => messages.map(({ payload }) => payload.toString())

describe('request', () => {
  test('request: resolves with the answer when the acknowledgement came', async () => {
    const { kernel, socket } = open(() => [{ kind: 'answer', type: 16, payload: Buffer.from('here') }, { kind: 'ack' }])
    expect(textOf(await socket.request(question))).toEqual(['here'])
    expect(kernel.requests[0]).toMatchObject({ type: 18, flags: NLM_F_REQUEST | NLM_F_ACK })
    expect(kernel.requests[0]?.payload.toString()).toBe('question')
  })

  test('request: each one has a sequence number of its own', async () => {
    const { kernel, socket } = open(() => [{ kind: 'ack' }])
    await socket.request(question)
    await socket.request(question)
    const [first, second] = kernel.requests.map(({ seq }) => seq)
    expect(second).toBe(first! + 1)
  })

  test('request: a refusal names the request, the errno and the kernel’s words', async () => {
    const { socket } = open(() => [{ kind: 'error', errno: 17, message: 'Name is taken', offset: 36 }])
    const error = await socket.request({ ...question, name: 'create link fl0' }).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(NetlinkError)
    expect(error).toMatchObject({ request: 'create link fl0', errno: 17, code: 'EEXIST', offset: 36 })
    expect(String(error)).toBe('NetlinkError: create link fl0: EEXIST (kernel: Name is taken)')
    expect(isAlreadyExists(error)).toBe(true)
  })

  test('request: two at once get their own answers, whatever the order', async () => {
    const { kernel, socket } = open(() => undefined)
    const first = socket.request(question)
    const second = socket.request(question)
    const answerWith = (text: string) =>
      [{ kind: 'answer', type: 16, payload: Buffer.from(text) }, { kind: 'ack' }] as const
    kernel.answer(kernel.requests[1]!, answerWith('2nd!'))
    kernel.answer(kernel.requests[0]!, answerWith('1st!'))
    expect(textOf(await first)).toEqual(['1st!'])
    expect(textOf(await second)).toEqual(['2nd!'])
  })

  test('request: while it is under way it keeps the process alive, then no longer', async () => {
    const { kernel, socket } = open(() => [{ kind: 'ack' }])
    expect(kernel.referenced).toBe(false)
    const answer = socket.request(question)
    expect(kernel.referenced).toBe(true)
    await answer
    expect(kernel.referenced).toBe(false)
  })

  test('dispose: pending requests fail, and later ones at once', async () => {
    const { kernel, socket } = open(() => undefined)
    const pending = socket.request(question)
    socket[Symbol.dispose]()
    await expect(pending).rejects.toThrow(NetlinkSocketError)
    await expect(socket.request(question)).rejects.toThrow('ask: the netlink socket is closed')
    await expect(socket.dump(question)).rejects.toThrow('closed')
    expect(kernel.closed).toBe(true)
    expect(kernel.datagrams).toHaveLength(1)
  })
})

describe('pipeline', () => {
  const requests = ['a', 'b', 'c', 'd'].map((name, type) => ({ name, type: 100 + type, payload: Buffer.alloc(4) }))
  const refuseOdd: ScriptedHandler = ({ type }) => [
    type % 2 === 1 ? { kind: 'error', errno: 2, message: `no ${type}` } : { kind: 'ack' },
  ]

  test('pipeline: one datagram, and each request has its own result', async () => {
    const { kernel, socket } = open(refuseOdd)
    const results = await socket.pipeline(requests)
    expect(kernel.datagrams).toHaveLength(1)
    expect(results.map((result) => (result instanceof Error ? result.message : 'ok'))).toEqual([
      'ok',
      'b: ENOENT (kernel: no 101)',
      'ok',
      'd: ENOENT (kernel: no 103)',
    ])
  })

  test('pipeline: asks for the acknowledgement of the last request only, and answers and refusals still find their request', async () => {
    const { kernel, socket } = open((request) => {
      if (request.type === 101) return [{ kind: 'error', errno: 2 }]
      return [{ kind: 'answer', type: 1000, payload: Buffer.from(`for ${request.type}.`) }, { kind: 'ack' }]
    })
    const results = await socket.pipeline(requests)
    expect(kernel.requests.map(({ flags }) => (flags & NLM_F_ACK) !== 0)).toEqual([false, false, false, true])
    expect(results.map((result) => (result instanceof Error ? 'refused' : textOf(result)[0]))).toEqual([
      'for 100.',
      'refused',
      'for 102.',
      'for 103.',
    ])
  })

  test('pipeline: when messages were dropped, one of them may have been a refusal, and nothing has succeeded', async () => {
    const { kernel, socket } = open(() => [{ kind: 'ack' }])
    vi.spyOn(kernel, 'checkLoss').mockImplementation(() => kernel.overrun())
    const results = await socket.pipeline(requests)
    expect(results.map((result) => result instanceof NetlinkSocketError)).toEqual([true, true, true, true])
  })

  test('pipeline: apart, another thread sends it', async () => {
    const { kernel, socket } = open(() => [{ kind: 'ack' }])
    const apart = vi.spyOn(kernel, 'sendApart')
    await socket.request(question)
    expect(apart).toHaveBeenCalledTimes(0)
    await socket.request(question, { apart: true })
    expect(apart).toHaveBeenCalledTimes(1)
  })

  test('runAll: gathers all errors, though every request was tried', async () => {
    const { kernel, socket } = open(refuseOdd)
    await expect(runAll(socket, requests)).rejects.toMatchObject({
      name: 'NetlinkRequestsError',
      errors: [{ request: 'b' }, { request: 'd' }],
    })
    expect(kernel.requests).toHaveLength(4)
  })

  test('runAll: the message names the first of many errors, and how many there are', async () => {
    const { socket } = open(() => [{ kind: 'error', errno: 97 }])
    const many = Array.from({ length: 300 }, (_, i) => ({ ...question, name: `add ${i}` }))
    await expect(runAll(socket, many)).rejects.toMatchObject({
      errors: { length: 300 },
      message: expect.stringMatching(/^add 0:(?!.*add 5).*add 4:.*; and 295 more$/) as string,
    })
  })

  test('runAll: a single error is thrown as it is', async () => {
    const { socket } = open(refuseOdd)
    await expect(runAll(socket, requests.slice(0, 2))).rejects.toMatchObject({ name: 'NetlinkError', request: 'b' })
  })

  test('runAll: a thousand requests go out in several datagrams and come back in order', async () => {
    const { kernel, socket } = open(({ payload }) => [{ kind: 'answer', type: 1000, payload }, { kind: 'ack' }])
    const many = Array.from({ length: 1000 }, (_, i) => ({
      name: `${i}`,
      type: 99,
      payload: Buffer.from(`${i}`.padStart(4)),
    }))
    const answers = await runAll(socket, many)
    expect(answers.map(([message]) => Number(message?.payload.toString()))).toEqual(many.map((_, i) => i))
    expect(kernel.datagrams).toHaveLength(4)
  })
})

describe('dump', () => {
  const part = (text: string, interrupted = false) =>
    ({ kind: 'part', type: 16, payload: Buffer.from(text), interrupted }) as const

  test('dump: resolves with all parts', async () => {
    const { kernel, socket } = open(() => [part('one!'), part('two!'), { kind: 'done' }])
    expect(textOf(await socket.dump(question))).toEqual(['one!', 'two!'])
    expect(kernel.requests[0]?.flags).toBe(NLM_F_REQUEST | NLM_F_DUMP)
  })

  test('dump: is repeated when the kernel says that the list changed meanwhile', async () => {
    let attempts = 0
    const { socket } = open(() =>
      ++attempts < 3 ? [part('old!'), part('old!', true), { kind: 'done' }] : [part('new!'), { kind: 'done' }],
    )
    expect(textOf(await socket.dump(question))).toEqual(['new!'])
    expect(attempts).toBe(3)
  })

  test('dump: gives up when the list never stands still', async () => {
    const { kernel, socket } = open(() => [part('old!', true), { kind: 'done' }])
    await expect(socket.dump(question)).rejects.toThrow('ask: changed during each of 20 reads')
    expect(kernel.requests).toHaveLength(20)
  })

  test.each([
    { how: 'before its first part', replies: [{ kind: 'error', errno: 1 }] },
    { how: 'half-way', replies: [part('one!'), { kind: 'done', errno: 1 }] },
  ] as const)('dump: fails when the kernel refuses it $how', async ({ replies }) => {
    const { socket } = open(() => replies)
    await expect(socket.dump(question)).rejects.toMatchObject({ code: 'EPERM' })
  })
})

describe('batch', () => {
  /** begin (acknowledged), `count` messages (silent), end (acknowledged): as nfnetlink has it. */
  function batchOf(socket: NetlinkSocket, count: number): NetlinkBatch {
    const firstSeq = socket.takeSeqs(count + 2)
    const writer = new AttributeWriter()
    const flags = NLM_F_REQUEST | NLM_F_ACK
    for (let i = 0; i < count + 2; i++) writer.endMessage(writer.beginMessage(2000 + i, flags, firstSeq + i))
    return { name: 'batch', datagram: writer.bytes(), firstSeq, lastSeq: firstSeq + count + 1 }
  }

  test('batch: resolves without errors when its last message is acknowledged', async () => {
    const { socket } = open(({ type }) => (type === 2003 ? [{ kind: 'ack' }] : undefined))
    expect((await socket.batch(batchOf(socket, 2))).errors).toEqual([])
  })

  test('batch: tells each message’s error by its sequence number', async () => {
    const { socket } = open(({ type }) => {
      if (type === 2001) return [{ kind: 'error', errno: 17, message: 'taken' }]
      if (type === 2002) return [{ kind: 'error', errno: 2 }]
      return type === 2003 ? [{ kind: 'ack' }] : undefined
    })
    const batch = batchOf(socket, 2)
    expect((await socket.batch(batch)).errors).toEqual([
      { seq: batch.firstSeq + 1, errno: 17, message: 'taken' },
      { seq: batch.firstSeq + 2, errno: 2 },
    ])
  })

  test('batch: refused whole by its first message, it does not wait for the last', async () => {
    const { socket } = open(({ type }) => (type === 2000 ? [{ kind: 'error', errno: 85 }] : undefined))
    const batch = batchOf(socket, 2)
    expect((await socket.batch(batch)).errors).toEqual([{ seq: batch.firstSeq, errno: 85 }])
  })

  test('batch: fails when the socket is closed meanwhile', async () => {
    const { socket } = open(() => undefined)
    const reply = socket.batch(batchOf(socket, 1))
    socket[Symbol.dispose]()
    await expect(reply).rejects.toThrow('closed')
  })
})

describe('subscribe', () => {
  test('subscribe: hears notifications of the group', () => {
    const { kernel, socket } = open(() => undefined)
    const heard: string[] = []
    socket.subscribe(
      7,
      (message) => heard.push(message.payload.toString()),
      () => {},
    )
    kernel.notify(7, 24, Buffer.from('news'))
    kernel.notify(8, 24, Buffer.from('none'))
    expect(heard).toEqual(['news'])
  })

  test('subscribe: another program’s notification with a sequence number that is pending here is no answer', async () => {
    const { kernel, socket } = open(() => undefined)
    const heard: string[] = []
    socket.subscribe(
      7,
      (message) => heard.push(message.payload.toString()),
      () => {},
    )
    const answer = socket.request(question)
    kernel.notify(7, 24, Buffer.from('news'), { seq: kernel.requests[0]!.seq, port: 99 })
    kernel.answer(kernel.requests[0]!, [{ kind: 'ack' }])
    expect(await answer).toEqual([])
    expect(heard).toEqual(['news'])
  })

  test('onLost: is called when the kernel dropped messages, and what was under way fails', async () => {
    const { kernel, socket } = open(() => undefined)
    const lost: Error[] = []
    socket.subscribe(
      7,
      () => {},
      (error) => lost.push(error),
    )
    const pending = socket.request(question)
    kernel.overrun()
    await expect(pending).rejects.toThrow('netlink messages were lost: ENOBUFS')
    expect(lost).toHaveLength(1)
    expect(lost[0]?.cause).toMatchObject({ code: 'ENOBUFS' })
  })
})
