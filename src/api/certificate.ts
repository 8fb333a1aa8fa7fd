import { createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto'
import { ipToBytes, parseIp } from '../net/ip-address.ts'

/** A certificate and its key, PEM. */
export interface ServerCertificate {
  readonly certificate: string
  readonly key: string
}

/** How long a certificate is good, ms; and how long before its end it is made anew. */
const validMs = 365 * 86_400_000
const renewMs = 90 * 86_400_000

/**
 * Makes a key (P-256) and a certificate for it that vouches for itself (RFC 5280), good for a year: clients are given it as
 * the authority that they trust. Node has no call that makes certificates, so its few fields are written here.
 */
export function createServerCertificate(hosts: readonly string[], now: Date): ServerCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(oid('1.2.840.10045.4.3.2')) // ecdsa-with-SHA256, RFC 5758
  const name = sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from('fairlead')))))
  // Clocks of clients may be behind.
  const from = new Date(now.getTime() - 3_600_000)
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x7f) | 0x40
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    algorithm,
    name,
    sequence(time(from), time(new Date(now.getTime() + validMs))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(
      0xa3,
      sequence(
        extension('2.5.29.19', sequence(der(0x01, Buffer.from([0xff]))), true), // basicConstraints: an authority
        extension('2.5.29.15', der(0x03, Buffer.from([2, 0x84])), true), // keyUsage: digitalSignature, keyCertSign
        extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1')), false), // extKeyUsage: serverAuth
        extension('2.5.29.17', sequence(...hosts.map(alternativeName)), false),
      ),
    ),
  )
  const signature = sign('sha256', toBeSigned, privateKey)
  const whole = sequence(toBeSigned, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? []
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

/** Whether a certificate fits its key, names all hosts, and is good for some time still. */
export function isUsable(pair: ServerCertificate, hosts: readonly string[], now: Date): boolean {
  try {
    const certificate = new X509Certificate(pair.certificate)
    const named = hosts.every((host) => (isIp(host) ? certificate.checkIP(host) : certificate.checkHost(host)))
    const fits = certificate.checkPrivateKey(createPrivateKey(pair.key))
    return named && fits && Date.parse(certificate.validTo) - now.getTime() > renewMs
  } catch {
    // Not a certificate, or not a key: a new one is made.
    return false
  }
}

function isIp(host: string): boolean {
  return host.includes(':') || /^[0-9.]+$/.test(host)
}

/** subjectAltName: iPAddress [7], dNSName [2]. */
function alternativeName(host: string): Buffer {
  return isIp(host) ? der(0x87, Buffer.from(ipToBytes(parseIp(host)))) : der(0x82, Buffer.from(host))
}

function extension(id: string, value: Buffer, critical: boolean): Buffer {
  const flag = critical ? [der(0x01, Buffer.from([0xff]))] : []
  return sequence(oid(id), ...flag, der(0x04, value))
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

/** UTCTime until 2049, GeneralizedTime from then on (RFC 5280, 4.1.2.5). */
function time(at: Date): Buffer {
  const digits = at.toISOString().replaceAll(/[-:T]|\.\d+/g, '')
  return at.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const number of rest) {
    const groups = [number & 0x7f]
    for (let left = number >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80)
    bytes.push(...groups)
  }
  return der(0x06, Buffer.from(bytes))
}

function der(tag: number, content: Buffer): Buffer {
  const length = content.length
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...head]), content])
}
