import { expect, test } from 'vitest'
import { loadOrder } from '../vm/boot-image.ts'

const modulesDep = `kernel/fs/9p/9p.ko: kernel/fs/netfs/netfs.ko kernel/net/9p/9pnet.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet-virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
`

test.each([
  ['a module without needs', ['9pnet'], ['9pnet']],
  [
    'what a module needs comes before it, each once',
    ['9pnet_virtio', '9p'],
    ['virtio', '9pnet', '9pnet-virtio', 'netfs', '9p'],
  ],
  ['what is built into the kernel has no file', ['overlay'], []],
])('loadOrder: %s', (_, names, expected) => {
  const files = loadOrder(modulesDep, names)
  expect(files.map((file) => file.replace(/.*\/|\.ko$/g, ''))).toEqual(expected)
})
