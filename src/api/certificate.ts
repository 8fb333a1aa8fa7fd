import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto'
import { ipToBytes, parseIp } from '../net/ip-address.ts'

/** A certificate and its key, PEM. */
export interface ServerCertificate {
  readonly certificate: string
  readonly key: string
}

const day = 86_400_000
/** How long certificates are good, ms; and how long before its end a server's is made anew. */
const validMs = { authority: 3650 * day, server: 365 * day } as const
const renewMs = 90 * day

/** Makes a key (P-256) and the certificate of an authority, which vouches for itself (RFC 5280), good for ten years. */
export function createAuthority(now: Date): ServerCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  // A name of its own: who is given the certificates of two authorities finds the right one by it.
  const name = distinguishedName(`fairlead CA ${keyId(publicKey).toString('hex').slice(0, 8)}`)
  return {
    certificate: certify(publicKey, {
      subject: name,
      issuer: name,
      by: privateKey,
      from: now,
      validMs: validMs.authority,
      extensions: [
        extension('2.5.29.19', sequence(der(0x01, Buffer.from([0xff]))), true), // basicConstraints: an authority
        extension('2.5.29.15', der(0x03, Buffer.from([1, 0x06])), true), // keyUsage: keyCertSign, cRLSign
      ],
    }),
    key: toPem(privateKey),
  }
}

/**
 * Makes a key (P-256) and a certificate of a server, good for a year, by an authority: clients are given the authority's
 * certificate as what they trust. Node has no call that makes certificates, so their few fields are written here.
 */
export function createServerCertificate(
  authority: ServerCertificate,
  hosts: readonly string[],
  now: Date,
): ServerCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = new X509Certificate(authority.certificate)
  const certificate = certify(publicKey, {
    subject: distinguishedName('fairlead'),
    issuer: distinguishedName(issuer.subject.replace(/^CN=/, '')),
    by: createPrivateKey(authority.key),
    from: now,
    validMs: validMs.server,
    extensions: [
      extension('2.5.29.19', sequence(), true), // basicConstraints: no authority
      extension('2.5.29.15', der(0x03, Buffer.from([7, 0x80])), true), // keyUsage: digitalSignature
      extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1')), false), // extKeyUsage: serverAuth
      extension('2.5.29.17', sequence(...hosts.map(alternativeName)), false),
      extension('2.5.29.35', sequence(der(0x80, keyId(issuer.publicKey))), false), // authorityKeyIdentifier
    ],
  })
  return { certificate, key: toPem(privateKey) }
}

/** Whether an authority's certificate fits its key, and outlives the certificates that it is to make. */
export function isUsableAuthority(pair: ServerCertificate, now: Date): boolean {
  try {
    const certificate = new X509Certificate(pair.certificate)
    return certificate.ca && fitsAndLasts(pair, now, validMs.server)
  } catch {
    // Not a certificate, or not a key: a new one is made.
    return false
  }
}

/** Whether a certificate is by the authority, fits its key, names all hosts, and is good for some time still. */
export function isUsable(
  pair: ServerCertificate,
  { authority, hosts, now }: { authority: ServerCertificate; hosts: readonly string[]; now: Date },
): boolean {
  try {
    const certificate = new X509Certificate(pair.certificate)
    const named = hosts.every((host) => (isIp(host) ? certificate.checkIP(host) : certificate.checkHost(host)))
    const known = certificate.verify(new X509Certificate(authority.certificate).publicKey)
    return named && known && fitsAndLasts(pair, now, renewMs)
  } catch {
    // Not a certificate, or not a key: a new one is made.
    return false
  }
}

function fitsAndLasts({ certificate, key }: ServerCertificate, now: Date, lastsMs: number): boolean {
  const parsed = new X509Certificate(certificate)
  return parsed.checkPrivateKey(createPrivateKey(key)) && Date.parse(parsed.validTo) - now.getTime() > lastsMs
}

/** A certificate (PEM) for a key, signed with ECDSA and SHA-256 (RFC 5758). */
function certify(
  publicKey: KeyObject,
  options: {
    readonly subject: Buffer
    readonly issuer: Buffer
    readonly by: KeyObject
    readonly from: Date
    readonly validMs: number
    readonly extensions: readonly Buffer[]
  },
): string {
  const { subject, issuer, by, validMs } = options
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  // Clocks of clients may be behind.
  const from = new Date(options.from.getTime() - 3_600_000)
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x7f) | 0x40
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    algorithm,
    issuer,
    sequence(time(from), time(new Date(options.from.getTime() + validMs))),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(
      0xa3,
      sequence(
        ...options.extensions,
        extension('2.5.29.14', der(0x04, keyId(publicKey)), false), // subjectKeyIdentifier
      ),
    ),
  )
  const signature = sign('sha256', toBeSigned, by)
  const whole = sequence(toBeSigned, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

function toPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** SHA-1 of the public point, the last 65 bytes of a P-256 key's DER form (RFC 5280, 4.2.1.2, method 1). */
function keyId(publicKey: KeyObject): Buffer {
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-65)
  return createHash('sha1').update(point).digest()
}

function distinguishedName(commonName: string): Buffer {
  return sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(commonName)))))
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
