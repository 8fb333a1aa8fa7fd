import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { CaseError } from '../conformance/case-reader.ts'
import { findCaseFiles } from '../conformance/run-cases.ts'
import { checkReply } from '../conformance-dns/check-reply.ts'
import { parseDnsCase } from '../conformance-dns/parse-dns-case.ts'
import { formatRdata, parseRecord } from '../conformance-dns/record-text.ts'

function problemsOf(text: string): string[] {
  try {
    parseDnsCase(text, 'a.yaml')
    return []
  } catch (error) {
    if (!(error instanceof CaseError)) throw error
    return error.problems.map(({ path, reason }) => `${path}: ${reason}`)
  }
}

const withQuery = (query: string) => `title: a\nqueries: [${query}]`
const good = 'name: a., type: A'

describe('parseDnsCase', () => {
  test.each(findCaseFiles(['test/cases/dns']))('parseDnsCase reads %s', (file) => {
    expect(parseDnsCase(readFileSync(file, 'utf8'), file).steps.length).toBeGreaterThan(0)
  })

  test.each([
    ['title: a', 'queries: is missing'],
    ['queries: []', 'title: is missing'],
    ['title: a\nqueries: []\nqueris: []', 'queris: unknown key'],
    ['title: a\nqueries: []\nsteps: []', 'queries: stands beside steps'],
    ['title: a\nqueries: []\nconfig: {pods: some}', 'config.pods: "some" is not known'],
    ['title: a\nqueries: []\nconfig: {upstream: {a.: {anser: []}}}', 'config.upstream.a..anser: unknown key'],
    ['title: a\nqueries: []\nobjects: [{kind: Node, apiVersion: v1, metadata: {name: a}}]', 'objects[0].kind: "Node" is not known'],
    [withQuery(`{${good}}`), 'queries[0].expect: is missing'],
    [withQuery(`{${good}, expect: {}}`), 'queries[0].expect.rcode: is missing'],
    [withQuery(`{${good}, expect: {rcode: NOPE}}`), 'queries[0].expect.rcode: "NOPE" is not a response code'],
    [withQuery(`{${good}, expect: {rcode: NOERROR, ad: true}}`), 'queries[0].expect.ad: unknown key'],
    [withQuery(`{${good}, expect: {silence: true, rcode: NOERROR}}`), 'queries[0].expect.rcode: stands beside silence'],
    [withQuery(`{${good}, raw: "123", expect: {silence: true}}`), 'queries[0].raw: "123" is not hexadecimal'],
    [withQuery(`{name: a., type: TYPO, expect: {silence: true}}`), 'queries[0].type: "TYPO" is not a record type'],
    [withQuery(`{${good}, transport: sctp, expect: {silence: true}}`), 'queries[0].transport: "sctp" is not known'],
    [withQuery(`{${good}, expect: {rcode: NOERROR, answer: [a. 5 IN A 1.2.3]}}`), 'queries[0].expect.answer[0]:'],
    [withQuery(`{${good}, expect: {rcode: NOERROR, answer: [a. five IN A 1.2.3.4]}}`), '"five" in'],
  ])('parseDnsCase names what is wrong with %j', (text, problem) => {
    expect(problemsOf(text).join('\n')).toContain(problem)
  }) // prettier-ignore
})

describe('parseRecord', () => {
  test.each([
    ['a. 5 IN A 192.0.2.1', '192.0.2.1'],
    ['a. 5 IN AAAA 2001:DB8::1', '2001:db8::1'],
    ['a. 5 IN MX 10 Mail.Example.', '10 mail.example.'],
    ['a. 5 IN SRV 0 100 80 b.', '0 100 80 b.'],
    ['a. 5 IN TXT "one two" three "\\"\\065"', '"one two" "three" "\\"A"'],
    ['a. 5 IN SOA ns. mail. 1 2 3 4 5', 'ns. mail. * * * * *'],
    ['a. 5 IN TYPE65400 \\# 2 c000', '\\# 2 c000'],
    ['a. 5 IN NAPTR 1 2 "S" "SIP" "" _sip.b.', '1 2 "S" "SIP" "" _sip.b.'],
  ])('parseRecord reads %s', (text, rdata) => {
    const record = parseRecord(text)
    expect(formatRdata(record.type, record.rdata, { start: 0, end: record.rdata.length })).toBe(rdata)
  })
})

describe('checkReply', () => {
  const caseOf = (expectation: string) =>
    parseDnsCase(withQuery(`{name: a., type: A, expect: ${expectation}}`), 'a.yaml').steps[0]!.queries[0]!
  const question = Buffer.from('0161000001 0001'.replaceAll(' ', ''), 'hex')
  const sent = Buffer.concat([Buffer.from('000701000001000000000000', 'hex'), question])
  /** `a. 5 IN A 192.0.2.1` with AA. */
  const answer = Buffer.from('c00c00010001000000050004c0000201', 'hex')
  const reply = (header: string, ...rest: Buffer[]) => Buffer.concat([Buffer.from(header, 'hex'), question, ...rest])
  const right = reply('000785800001000100000000', answer)

  test.each([
    ['{rcode: NOERROR, aa: true, ra: true, answer: [A. 5 IN A 192.0.2.1], authority: []}', right, undefined],
    ['{rcode: NOERROR, answer: [a. <=9 IN A 192.0.2.1]}', right, undefined],
    ['{rcode: NXDOMAIN}', right, 'NXDOMAIN'],
    ['{rcode: NOERROR, aa: false}', right, 'aa=0'],
    ['{rcode: NOERROR, answer: [a. 6 IN A 192.0.2.1]}', right, 'answer a. 6 IN A 192.0.2.1'],
    ['{rcode: NOERROR, answer: []}', right, 'answer (empty)'],
    ['{rcode: NOERROR, edns: {version: 0}}', right, 'an OPT record'],
    ['{rcode: NOERROR}', reply('000885800001000100000000', answer), 'id 7'],
    ['{rcode: NOERROR}', reply('000705800001000100000000', answer), 'a response'],
    ['{rcode: NOERROR}', reply('000785c00001000100000000', answer), 'the reserved header bit'],
    ['{rcode: NOERROR}', reply('000785800001000100000000', answer, Buffer.of(0)), 'a well-formed reply'],
    ['{rcode: NOERROR}', Buffer.from('000785800000000000000000', 'hex'), 'the question byte for byte'],
    ['{silence: true}', right, 'silence'],
    ['{rcode: NOERROR}', undefined, 'a reply'],
  ])('checkReply compares %s', (expectation, bytes, expected) => {
    const difference = checkReply(caseOf(expectation), { sent, reply: bytes })
    if (expected === undefined) expect(difference).toBeUndefined()
    else expect(difference?.expected).toContain(expected)
  })
})
