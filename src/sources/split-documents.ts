/** One document of a YAML stream, as text. */
export interface DocumentText {
  readonly text: string
  /** The line of the stream on which `text` begins, counted from 1. */
  readonly line: number
}

/**
 * Splits a YAML stream at its document markers, leaving out documents without content. A line that begins with `---` or
 * `...` is a marker wherever it stands, in block scalars too (YAML 1.2.2, section 9.1), so no parsing is needed, and one
 * broken document cannot hide the next.
 */
export function splitDocuments(stream: string): DocumentText[] {
  const documents: DocumentText[] = []
  const text = stream.startsWith('\uFEFF') ? stream.slice(1) : stream
  let start = 0
  let startLine = 1
  let line = 1
  let content = false
  let directives = false
  const end = (at: number) => {
    if (content) documents.push({ text: text.slice(start, at), line: startLine })
    start = at
    startLine = line
    content = false
    directives = false
  }
  for (let at = 0; at < text.length;) {
    const newline = text.indexOf('\n', at)
    const next = newline === -1 ? text.length : newline + 1
    if (isMarker(text, at, '---')) {
      // `%YAML 1.2` before the marker belongs to the document after it.
      const whole = directives && !content
      if (!whole) end(at)
      content ||= hasContent(text, at + 3, next)
      // Without the marker, a document's text does not depend on whether it is the first.
      if (!whole && !content) {
        start = next
        startLine = line + 1
      }
    } else if (isMarker(text, at, '...')) {
      end(at)
      start = next
      startLine = line + 1
    } else if (text[at] === '%' && !content) directives = true
    else content ||= hasContent(text, at, next)
    at = next
    line++
  }
  end(text.length)
  return documents
}

function isMarker(text: string, at: number, marker: string): boolean {
  if (!text.startsWith(marker, at)) return false
  const after = text.charCodeAt(at + 3)
  return Number.isNaN(after) || after === 10 || after === 13 || after === 32 || after === 9
}

/** Whether a line holds more than white space and a comment. */
function hasContent(text: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const char = text.charCodeAt(i)
    if (char === 32 || char === 9 || char === 10 || char === 13) continue
    return char !== 35
  }
  return false
}
