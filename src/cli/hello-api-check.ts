import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import type { Daemon } from '../daemon/start.ts'

/** A kubeconfig as the daemon writes it. */
interface Kubeconfig {
  readonly clusters: readonly [
    { readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } },
  ]
  readonly users: readonly [{ readonly user: { readonly token: string } }]
}

/** Asks the API for the example's Service as kubectl does: with the kubeconfig and nothing else. Prints a line. */
export async function checkHelloApi(daemon: Daemon): Promise<boolean> {
  const start = performance.now()
  const { url = '', kubeconfig = '' } = daemon.status().api ?? {}
  const seen = await askForService(kubeconfig).catch((error: unknown) => String(error))
  const good = seen === '10.96.0.80'
  const ms = (performance.now() - start).toFixed(0)
  console.log(`${good ? 'ok    ' : 'NOT OK'} API ${url} -> Service web: ${seen} (${ms} ms)`)
  return good
}

/** The cluster IP of the Service. */
async function askForService(kubeconfig: string): Promise<string> {
  const { clusters, users } = JSON.parse(readFileSync(kubeconfig, 'utf8')) as Kubeconfig
  const { server, 'certificate-authority-data': authority } = clusters[0].cluster
  const options = {
    ca: Buffer.from(authority, 'base64'),
    headers: { authorization: `Bearer ${users[0].user.token}` },
    timeout: 5000,
    agent: false,
  } as const
  return new Promise((resolve, reject) => {
    const asked = request(`${server}/api/v1/namespaces/default/services/web`, options, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => {
        const { spec, message } = JSON.parse(text) as { spec?: { clusterIP: string }; message?: string }
        resolve(spec?.clusterIP ?? message ?? `answered ${response.statusCode}`)
      })
    })
    asked.on('timeout', () => asked.destroy(new Error('no answer within 5 s')))
    asked.on('error', reject).end()
  })
}
