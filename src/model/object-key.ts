/** `namespace/name`: how a namespaced object is named in snapshots, messages and logs. */
export type ObjectKey = string

export function objectKey(object: { readonly namespace: string; readonly name: string }): ObjectKey {
  return `${object.namespace}/${object.name}`
}
