import { request } from 'node:http'
import { connect } from 'node:net'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { ReadinessProbe } from './readiness-probe.ts'

/** Asks once. Resolves to undefined when it went well, or to the reason why not: `connect ECONNREFUSED`, `status 503`. */
export async function runProbe(probe: ReadinessProbe, ip: IpAddress): Promise<string | undefined> {
  const { httpGet, tcpSocket } = probe
  const timeoutMs = probe.timeoutSeconds * 1000
  if (httpGet) return await askHttp({ ...httpGet, ip, timeoutMs })
  return tcpSocket && (await askTcp({ ...tcpSocket, ip, timeoutMs }))
}

interface Attempt {
  readonly ip: IpAddress
  readonly port: number
  readonly timeoutMs: number
}

function askTcp({ ip, port, timeoutMs }: Attempt): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: ip, port })
    const timer = setTimeout(() => end(tooLate(timeoutMs)), timeoutMs)
    const end = (reason: string | undefined): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(reason)
    }
    socket.once('connect', () => end(undefined))
    socket.once('error', (error) => end(reasonOf(error)))
  })
}

function askHttp({ ip, port, path, timeoutMs }: Attempt & { readonly path: string }): Promise<string | undefined> {
  return new Promise((resolve) => {
    const host = `${ipFamilyOf(ip) === 6 ? `[${ip}]` : ip}:${port}`
    const headers = { Host: host, 'User-Agent': 'fairlead-probe', Accept: '*/*', Connection: 'close' }
    const asked = request({ host: ip, port, path, headers, agent: false })
    const timer = setTimeout(() => end(tooLate(timeoutMs)), timeoutMs)
    const end = (reason: string | undefined): void => {
      clearTimeout(timer)
      // The body says nothing, however long it is.
      asked.destroy()
      resolve(reason)
    }
    asked.on('error', (error) => end(reasonOf(error)))
    asked.once('response', ({ statusCode: status = 0 }) => {
      end(status >= 200 && status < 400 ? undefined : `status ${status}`)
    })
    asked.end()
  })
}

function tooLate(ms: number): string {
  return `no answer within ${ms / 1000} s`
}

/** Without the address, which changes nothing and would make each reason another one. */
function reasonOf(error: NodeJS.ErrnoException): string {
  const { syscall, code, message } = error
  return syscall !== undefined && code !== undefined ? `${syscall} ${code}` : message
}
