import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
    ['api-resources', /selfsubjectaccessreviews +authorization\.k8s\.io\/v1 +false/],
    ['api-versions', /discovery\.k8s\.io\/v1\n[\s\S]*fairlead\.dev\/v1alpha1\n/],
    ['auth can-i create services', /^yes\n$/],
    ['auth can-i --list', /\*\.\* +\[\] +\[\] +\[\*\]/],
    ['auth whoami', /Username +fairlead:admin\n/],
    ['get namespaces', /default +Active/],
    ['apply -f -', /service\/web created/, web(8080)],
    ['apply -f -', /service\/web unchanged/, web(8080)],
    ['apply -f -', /service\/web configured/, web(9090)],
    ['get service web -o wide', /web +ClusterIP +10\.96\.0\.\d+ +<none> +80\/TCP +\d+s +app=web/],
    ['get svc web -o jsonpath={.spec.ports[0].targetPort}', /^9090$/],
    ['get svc -o yaml', /kind: List/],
    ['get svc web -o json', /"targetPort": 9090[\s\S]*"selector": \{\n +"app": "web"/],
    ['apply view-last-applied svc web', /targetPort: 9090/],
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
    [
      'apply -f -',
      /error converting YAML to JSON: yaml: line 3: mapping values are not allowed/,
      'kind: Service\nmetadata:\n  a: b: c',
    ],
    ['apply -f -', /no matches for kind "Thing" in version "v1"/, 'apiVersion: v1\nkind: Thing\nmetadata: {name: a}'],
    ['apply -f -', /spec\.ports\[0\]\.port: "http" is not int32/, web(80).replace('port: 80', 'port: http')],
    [
      'replace -f -',
      /Conflict|object has been modified/,
      web(80).replace('{name: web,', '{name: web, resourceVersion: "1",'),
    ],
    [
      'create --dry-run=server -o jsonpath={.metadata.resourceVersion}{.spec.clusterIP} -f -',
      /^10\.96\.0\.\d+$/,
      web(80).replaceAll('web', 'dry'),
    ],
    ['get svc dry', /services "dry" not found/],
    ['apply --server-side --dry-run=server -f -', /conflict with "other"/, web(6060)],
    ['apply --validate=strict -f -', /unknown field "spec\.prots"/, web(80, '  prots: []')],
    ['apply -f -', /spec\.ports\[0\]\.port: Invalid value/, web(80).replace('port: 80', 'port: 70000')],
    ['apply --dry-run=server -f -', /configured \(server dry run\)/, web(6060)],
    ['get svc web -o jsonpath={.spec.ports[0].targetPort}', /^7070$/],
    ['create service clusterip typed --tcp=80:90', /service\/typed created/],
    ['run pod1 --image=none --restart=Never', /pod\/pod1 created/],
    ['get pods -o wide', /pod1 +0\/1 +Pending/],
    ['patch pod pod1 --subresource=status --type=merge -p {"status":{"podIP":"10.1.2.3"}}', /patched/],
    ['get pod pod1 -o jsonpath={.status.podIP}', /^10\.1\.2\.3$/],
    ['wait --for=jsonpath={.status.podIP}=10.1.2.3 pod/pod1 --timeout=5s', /pod\/pod1 condition met/],
    ['wait --for=condition=Ready pod/pod1 --timeout=1s', /timed out waiting/],
    ['describe pod pod1', /Image: +none[\s\S]*IP: +10\.1\.2\.3|IP: +10\.1\.2\.3[\s\S]*Image: +none/],
    ['expose pod pod1 --port=80 --name=exposed', /service\/exposed exposed/],
    ['set selector svc exposed app=other', /selector updated/],
    ['get svc exposed -o jsonpath={.spec.selector.app}', /^other$/],
    [
      'apply -f -',
      /endpoints\/typed created/,
      'apiVersion: v1\nkind: Endpoints\nmetadata: {name: typed}\nsubsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 90}]}]',
    ],
    ['get endpoints typed', /typed +192\.0\.2\.7:90/],
    ['get all', /pod\/pod1 [\s\S]*service\/exposed /],
    ['delete svc exposed --wait', /deleted/],
    ['explain service.spec.ports.targetPort', /by number or by name/],
    ['explain network', /FIELDS:[\s\S]*spec/],
    ['explain endpointslice.endpoints.conditions --recursive', /serving\t<boolean>/],
    ['explain service.spec.prots', /field "prots" does not exist/],
    ['create namespace shop', /created/],
    ['-n shop create service clusterip inside --tcp=80', /created/],
    ['delete namespace shop', /deleted/],
    ['wait --for=delete namespace/shop --timeout=5s', /^$/],
    ['get svc -A', /default +web/],
    ['delete namespace default', /may not be deleted/],
    ['delete svc web typed', /service "web" deleted[\s\S]*service "typed" deleted/],
    ['get svc', /No resources found/],
    ['delete svc web', /services "web" not found/],
  ])('%s', async (line, expected, input) => {
    const { out, err } = await kubectl(line, input)
    expect(out + err).toMatch(expected)
  })

  test('delete waits for finalizers', async () => {
    await kubectl('create service clusterip held --tcp=80')
    await kubectl('patch svc held --type=merge -p {"metadata":{"finalizers":["example.org/hold"]}}')
    const early = await kubectl('delete svc held --wait --timeout=1s')
    expect(early).toMatchObject({ code: 1, err: expect.stringMatching(/timed out waiting/) as string })
    const deleted = kubectl('wait --for=delete svc/held --timeout=20s')
    // It waits before what it waits for happens.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect((await kubectl('patch svc held --type=merge -p {"metadata":{"finalizers":null}}')).out).toContain('patched')
    expect(await deleted).toMatchObject({ code: 0 })
    expect((await kubectl('get svc held')).err).toContain('not found')
  })

  test('a read-only token may look, and no more', async () => {
    const token = readFileSync(join(folder, 'read-only.token'), 'utf8').trim()
    expect((await kubectl(`auth can-i delete services --token=${token}`)).out).toMatch(/^no/)
    expect((await kubectl(`get namespaces --token=${token}`)).out).toMatch(/default/)
    expect((await kubectl(`create namespace x --token=${token}`)).err).toMatch(/Forbidden/)
    expect((await kubectl('get namespaces --token=wrong')).err).toMatch(/must be logged in|Unauthorized/)
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
