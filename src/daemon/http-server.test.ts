import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { createHttpServer, HttpError, type Routes } from './http-server.ts'

async function serve(routes: Routes): Promise<{ url: string; errors: unknown[] }> {
  const errors: unknown[] = []
  const server = createHttpServer(routes, (error) => errors.push(error))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, errors }
}

const routes: Routes = {
  'GET /pods/:namespace/:name': ({ params }) => ({ json: params }),
  'POST /pods': ({ body }) => ({ status: 201, json: body }),
  'GET /bad': () => {
    throw new HttpError(409, 'taken')
  },
  'GET /broken': () => {
    throw new Error('oops')
  },
}

test('createHttpServer() routes by method and path, with parameters decoded', async () => {
  const { url } = await serve(routes)
  expect(await (await fetch(`${url}/pods/default/web%2D1`)).json()).toEqual({ namespace: 'default', name: 'web-1' })
  const posted = await fetch(`${url}/pods`, { method: 'POST', body: '{"a":1}' })
  expect([posted.status, await posted.json()]).toEqual([201, { a: 1 }])
})

const refused: [string, string, RequestInit, number, string][] = [
  ['an unknown path', '/nothing', {}, 404, 'no such path: /nothing'],
  ['a wrong method', '/pods', { method: 'DELETE' }, 405, '/pods takes POST, not DELETE'],
  ['a body that is not JSON', '/pods', { method: 'POST', body: '{' }, 400, 'the body is not JSON'],
  ['a body that is too large', '/pods', { method: 'POST', body: `"${'x'.repeat(2 << 20)}"` }, 413, 'larger than'],
  ['what a handler refuses', '/bad', {}, 409, 'taken'],
]
test.each(refused)('createHttpServer() refuses %s', async (_, path, init, status, message) => {
  const { url, errors } = await serve(routes)
  const response = await fetch(`${url}${path}`, init)
  expect(response.status).toBe(status)
  expect(((await response.json()) as { error: string }).error).toContain(message)
  expect(errors).toEqual([])
})

test('createHttpServer() reports a handler that broke and answers 500', async () => {
  const { url, errors } = await serve(routes)
  expect((await fetch(`${url}/broken`)).status).toBe(500)
  expect(String(errors[0])).toContain('oops')
})
