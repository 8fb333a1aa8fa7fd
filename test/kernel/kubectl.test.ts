import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ApiServer } from '../../src/api/api-server.ts'
import { openCredentials, writeKubeconfig } from '../../src/api/credentials.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseCidr } from '../../src/net/cidr.ts'

interface Printed {
  readonly code: number
  readonly out: string
  readonly err: string
}

const kubectlThere = await new Promise<boolean>((resolve) => {
  execFile('kubectl', ['version', '--client'], (error) => resolve(!error))
})

/** A session of the real kubectl, each step on what the one before left. */
describe.skipIf(!kubectlThere)('kubectl with the embedded API (skipped where there is no kubectl)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kubectl-'))
  const stack = new AsyncDisposableStack()
  const env = { ...process.env, HOME: folder, KUBECONFIG: join(folder, 'kubeconfig') }

  beforeAll(async () => {
    const claims = { serviceCIDRs: [parseCidr('10.96.0.0/24')] }
    const options = { file: join(folder, 'objects.db'), claims, clock: systemClock, log: silentLog, version: 'test' }
    const server = stack.use(await ApiServer.open(options))
    const credentials = openCredentials(folder, { hosts: ['127.0.0.1'], now: new Date() })
    const listener = server.createListener((request) => credentials.authenticate(request), credentials.server)
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    stack.defer(() => {
      listener.closeAllConnections()
      listener.close()
    })
    const url = `https://127.0.0.1:${(listener.address() as AddressInfo).port}`
    const { authority } = credentials
    writeKubeconfig(env.KUBECONFIG, { url, authority, token: credentials.tokens.admin })
  })

  afterAll(async () => {
    await stack.disposeAsync()
    rmSync(folder, { recursive: true })
  })

  function kubectl(line: string, input?: string): Promise<Printed> {
    const args = line.split(' ').map((word) => word.replaceAll('␣', ' '))
    return new Promise((resolve) => {
      const child = execFile('kubectl', args, { env, timeout: 30_000 }, (error, out, err) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, out, err })
      })
      child.stdin?.end(input)
    })
  }

  const web = (port: number, extra = ''): string =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {app: web}}\nspec:\n  selector: {app: web}\n  ports: [{name: http, port: 80, targetPort: ${port}}]\n${extra}`

  test.each<[line: string, expected: RegExp, input?: string]>([
    ['api-resources', /services +svc +v1 +true +Service[\s\S]*networks +net +fairlead\.dev\/v1alpha1 +false +Network/],
    ['get namespaces', /default +Active/],
    ['apply -f -', /service\/web created/, web(8080)],
    ['apply -f -', /service\/web unchanged/, web(8080)],
    ['apply -f -', /service\/web configured/, web(9090)],
    ['get service web -o wide', /web +ClusterIP +10\.96\.0\.\d+ +<none> +80\/TCP +\d+s +app=web/],
    ['get svc web -o jsonpath={.spec.ports[0].targetPort}', /^9090$/],
    ['get svc -o yaml', /kind: List/],
    ['describe service web', /TargetPort: +9090\/TCP/],
    ['label svc web tier=front', /labeled/],
    ['annotate svc web note=x', /annotated/],
    ['get svc -l tier=front -o name', /^service\/web\n$/],
    ['get svc -l tier!=front', /No resources found/],
    ['patch svc web -p {"spec":{"ports":[{"port":443,"name":"https"}]}}', /patched/],
    ['get svc web -o jsonpath={.spec.ports[*].port}', /^80 443$/],
    ['patch svc web --type=json -p [{"op":"remove","path":"/spec/ports/1"}]', /patched/],
    ['patch svc web --type=merge -p {"spec":{"type":"NodePort"}}', /patched/],
    ['get svc web', /NodePort .* 80:3\d{4}\/TCP/],
    ['apply --server-side -f -', /serverside-applied/, web(9090)],
    ['apply --server-side --field-manager=other -f -', /conflict with "kubectl": .*targetPort/, web(7070)],
    ['apply --server-side --field-manager=other --force-conflicts -f -', /serverside-applied/, web(7070)],
    ['apply --server-side -f -', /conflict with "other"/, web(9090)],
    ['create -f -', /services "web" already exists/, web(80)],
    ['apply --validate=strict -f -', /unknown field "spec\.prots"/, web(80, '  prots: []')],
    ['apply -f -', /spec\.ports\[0\]\.port: Invalid value/, web(80).replace('port: 80', 'port: 70000')],
    ['apply --dry-run=server -f -', /configured \(server dry run\)/, web(6060)],
    ['get svc web -o jsonpath={.spec.ports[0].targetPort}', /^7070$/],
    ['create service clusterip typed --tcp=80:90', /service\/typed created/],
    ['run pod1 --image=none --restart=Never', /pod\/pod1 created/],
    ['get pods -o wide', /pod1 +0\/1 +Pending/],
    ['patch pod pod1 --subresource=status --type=merge -p {"status":{"podIP":"10.1.2.3"}}', /patched/],
    ['get pod pod1 -o jsonpath={.status.podIP}', /^10\.1\.2\.3$/],
    ['explain service.spec.ports.targetPort', /by number or by name/],
    ['create namespace shop', /created/],
    ['-n shop create service clusterip inside --tcp=80', /created/],
    ['delete namespace shop', /deleted/],
    ['get svc -A', /default +web/],
    ['delete namespace default', /may not be deleted/],
    ['delete svc web typed', /service "web" deleted[\s\S]*service "typed" deleted/],
    ['get svc', /No resources found/],
    ['delete svc web', /services "web" not found/],
  ])('%s', async (line, expected, input) => {
    const { out, err } = await kubectl(line, input)
    expect(out + err).toMatch(expected)
  })

  test('edit and diff work on what is there', async () => {
    await kubectl('apply -f -', web(8080))
    const file = join(folder, 'web.yaml')
    writeFileSync(file, web(8081))
    const diff = await kubectl(`diff -f ${file}`)
    expect(diff).toMatchObject({ code: 1, out: expect.stringMatching(/\+ +targetPort: 8081/) as string })
    Object.assign(env, { KUBE_EDITOR: "sed -i 's/targetPort: 8080/targetPort: 8088/'" })
    expect((await kubectl('edit svc web')).out).toContain('edited')
    expect((await kubectl('get svc web -o jsonpath={.spec.ports[0].targetPort}')).out).toBe('8088')
  })

  test('get -w prints each change', async () => {
    const watch = spawn('kubectl', ['get', 'svc', '-w', '--no-headers'], { env })
    let text = ''
    watch.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    try {
      await expect.poll(() => text, { timeout: 10_000 }).toMatch(/web +ClusterIP/)
      await kubectl('create service nodeport late --tcp=80')
      await expect.poll(() => text, { timeout: 10_000 }).toMatch(/late +NodePort/)
    } finally {
      watch.kill()
    }
  })
})
