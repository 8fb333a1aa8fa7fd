import { describe, expect, it } from 'vitest'
import { AttributeWriter } from './attribute-writer.ts'

describe('AttributeWriter', () => {
  const write = (writer: AttributeWriter): Buffer => {
    writer.u8(1, 0x11)
    writer.u16(2, 0x2222)
    writer.u32(3, 0x33333333)
    writer.u32be(4, 0x44444444)
    writer.u64(5, 0x5555555555555555n)
    writer.string(6, 'six')
    writer.raw(Buffer.from([7]))
    writer.u16be(8, 0x8888)
    writer.u64be(9, 0x9999999999999999n)
    return Buffer.from(writer.bytes())
  }

  it.each(Array.from({ length: 80 }, (_, capacity) => [capacity]))(
    'writes the same when it grows from %i bytes',
    (capacity) => {
      expect(write(new AttributeWriter(capacity))).toEqual(write(new AttributeWriter(4096)))
    },
  )
})
