// The pods of the example: a small HTTP server that answers with its name and the address that it sees as the client's.
import { createServer } from 'node:http'

const [name, port = '8080'] = process.argv.slice(2)

createServer((request, response) => {
  response.end(`hello from ${name} (you are ${request.socket.remoteAddress?.replace('::ffff:', '')})\n`)
}).listen(Number(port), '::')
