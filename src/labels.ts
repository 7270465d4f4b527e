/**
 * Ownership labels: identity of what this service made on an engine, written once at creation (an
 * engine cannot change labels later). State lives in the store.
 */
const PREFIX = 'container-orchestrator'

export const KINDS = ['tool', 'relic', 'worker', 'network', 'volume', 'pool', 'toolbox', 'image', 'egress'] as const
export type Kind = (typeof KINDS)[number]

/** What a container of ours may be. Of an image of ours, others may make containers: those inherit its labels. */
export const CONTAINER_KINDS: ReadonlySet<Kind> = new Set<Kind>([
  'tool',
  'relic',
  'worker',
  'egress',
  'pool',
  'toolbox',
])

/** Tells attempts apart; all else of an ownership may be looked for. */
export const NONCE_LABEL = `${PREFIX}.nonce`

export interface Ownership {
  /** This installation, by the UUID in its store. */
  instance: string
  kind: Kind
  /** Id of the record that claims the resource. */
  id: string
  session?: string | undefined
  /** Whose it is, where callers are told apart. */
  owner?: string | undefined
  /** The caller's name for it: tool_name, relic_name, worker_id. */
  name?: string | undefined
  /** One attempt at creating it: settles whether an aborted create happened. */
  nonce: string
}

export type Labels = Readonly<Record<string, string>>

export function encodeLabels(owner: Ownership): Labels {
  return {
    [`${PREFIX}.instance`]: owner.instance,
    [`${PREFIX}.kind`]: owner.kind,
    [`${PREFIX}.id`]: owner.id,
    [NONCE_LABEL]: owner.nonce,
    ...(owner.session === undefined ? {} : { [`${PREFIX}.session`]: owner.session }),
    ...(owner.owner === undefined ? {} : { [`${PREFIX}.owner`]: owner.owner }),
    ...(owner.name === undefined ? {} : { [`${PREFIX}.name`]: owner.name }),
  }
}

/** All of an ownership's labels, what has no value as an empty one: an image's own do not show through. */
export function encodeAllLabels(owner: Ownership): Labels {
  return { [`${PREFIX}.session`]: '', [`${PREFIX}.owner`]: '', [`${PREFIX}.name`]: '', ...encodeLabels(owner) }
}

/** The ownership that labels tell, or undefined where they are incomplete or of another service. */
export function decodeLabels(labels: Labels): Ownership | undefined {
  const instance = labels[`${PREFIX}.instance`]
  const kind = KINDS.find((known) => known === labels[`${PREFIX}.kind`])
  const id = labels[`${PREFIX}.id`]
  const nonce = labels[NONCE_LABEL]
  if (instance === undefined || kind === undefined || id === undefined || nonce === undefined) return undefined
  const told = (field: string) => labels[`${PREFIX}.${field}`] || undefined
  return { instance, kind, id, nonce, session: told('session'), owner: told('owner'), name: told('name') }
}

/** A label filter that matches all that an instance made, or what of it has a kind and a session. */
export function ownedBy(instance: string, kind?: Kind, session?: string): Labels {
  return {
    [`${PREFIX}.instance`]: instance,
    ...(kind === undefined ? {} : { [`${PREFIX}.kind`]: kind }),
    ...(session === undefined ? {} : { [`${PREFIX}.session`]: session }),
  }
}

/** True for a label that only this service may set. */
export function isReservedLabel(name: string): boolean {
  return name === PREFIX || name.startsWith(`${PREFIX}.`)
}
