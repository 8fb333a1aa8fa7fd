/**
 * The endpoints of all Services, as one process: greets every TCP connection with the address that it came to (4 bytes) and echoes what
 * comes, and echoes datagrams. It blocks, and so answers as fast as the kernel wakes it. Lines on standard input: `tcp IP PORT`, `udp IP PORT`; each is
 * answered with a line `ok` when it listens.
 */
import { readSync, writeSync } from 'node:fs'
import { BlockingSocket, pollReadable, socketAddress } from '../src/linux/blocking-socket.ts'
import { SyscallError } from '../src/linux/errno.ts'

const stdin = 0
const bytes = Buffer.alloc(65_536)
const listeners = new Map<number, BlockingSocket>()
const datagrams = new Map<number, BlockingSocket>()
const connections = new Map<number, BlockingSocket>()
const sender = Buffer.alloc(16)
let commands = ''

for (;;) {
  for (const fd of pollReadable([stdin, ...listeners.keys(), ...datagrams.keys(), ...connections.keys()])) serve(fd)
}

function serve(fd: number): void {
  if (fd === stdin) return command()
  const listener = listeners.get(fd)
  if (listener) {
    const connection = listener.accept()
    connections.set(connection.fd, connection)
    return passOver(() => connection.send(connection.ownAddress()))
  }
  const datagram = datagrams.get(fd)
  if (datagram) {
    return passOver(() => {
      const length = datagram.receiveFrom(bytes, sender)
      datagram.sendTo(bytes.subarray(0, length), sender)
    })
  }
  const connection = connections.get(fd)
  if (!connection) return
  let length = 0
  passOver(() => {
    length = connection.receive(bytes)
    if (length > 0) connection.send(bytes.subarray(0, length))
  })
  if (length > 0) return
  connections.delete(fd)
  connection[Symbol.dispose]()
}

/** A client that is gone (it ends by RST) is nothing to stop for. */
function passOver(work: () => void): void {
  try {
    work()
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
  }
}

function command(): void {
  const length = readSync(stdin, bytes)
  // Whoever started us is gone.
  if (length === 0) process.exit(0)
  commands += bytes.toString('latin1', 0, length)
  const lines = commands.split('\n')
  commands = lines.pop() ?? ''
  for (const line of lines) {
    const [protocol, ip = '', port] = line.split(' ')
    const open = BlockingSocket.listen(protocol === 'tcp' ? 'tcp' : 'udp', socketAddress(ip, Number(port)))
    ;(protocol === 'tcp' ? listeners : datagrams).set(open.fd, open)
    writeSync(1, 'ok\n')
  }
}
