import { describe, expect, test } from 'vitest'
import { formatReadinessProbe, parseReadinessProbe } from './readiness-probe.ts'

describe('parseReadinessProbe', () => {
  test('parseReadinessProbe() fills in the defaults of Kubernetes, and reads its own result', () => {
    const probe = parseReadinessProbe({ tcpSocket: { port: 80 } })
    expect(probe).toEqual({
      tcpSocket: { port: 80 },
      initialDelaySeconds: 0,
      periodSeconds: 10,
      timeoutSeconds: 1,
      successThreshold: 1,
      failureThreshold: 3,
    })
    expect(parseReadinessProbe(JSON.parse(JSON.stringify(probe)))).toEqual(probe)
    expect(formatReadinessProbe(probe)).toBe('tcp 80')
  })

  test('parseReadinessProbe() takes HTTP with and without a path', () => {
    expect(parseReadinessProbe({ httpGet: { port: 80 } }).httpGet).toEqual({ path: '/', port: 80 })
    const probe = parseReadinessProbe({ httpGet: { path: '/a?b=c', port: 8080 }, periodSeconds: 5 })
    expect([probe.httpGet?.path, probe.periodSeconds, formatReadinessProbe(probe)]).toEqual([
      '/a?b=c',
      5,
      'http /a?b=c:8080',
    ])
  })

  test.each([
    [{}, 'tcpSocket: stands nowhere (expected one of tcpSocket and httpGet)'],
    [{ tcpSocket: { port: 1 }, httpGet: { port: 1 } }, 'tcpSocket: stands beside httpGet'],
    [{ tcpSocket: {} }, 'tcpSocket.port: is missing'],
    [{ tcpSocket: { port: 'http' } }, 'tcpSocket.port: "http" is not a port'],
    [{ httpGet: { port: 0 } }, 'httpGet.port: 0 is not a port'],
    [{ httpGet: { path: 'x', port: 1 } }, 'httpGet.path: "x" is not a path'],
    [{ httpGet: { path: '/ HTTP/1.0\r\n', port: 1 } }, 'httpGet.path:'],
    [{ httpGet: { port: 1, scheme: 'HTTPS' } }, 'httpGet.scheme: is not known here'],
    [{ exec: { command: ['true'] } }, 'exec: is not known here'],
    [{ tcpSocket: { port: 1 }, periodSeconds: 0 }, 'periodSeconds: 0 is not a whole number from 1'],
    [{ tcpSocket: { port: 1 }, timeoutSeconds: 1.5 }, 'timeoutSeconds: 1.5 is not a whole number'],
    [7, '7 is not an object'],
  ])('parseReadinessProbe() refuses %o', (value, message) => {
    expect(() => parseReadinessProbe(value)).toThrow(message)
  })
})
