/** A node with a real vault and roster on a private DHT, without a daemon; and what an owner keeps at such nodes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock, type Clock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { encodeHead, sealOwnerState } from '../../lib/format/head.js'
import { deriveIdentity, newVolumeKeys, wrapVolumeKeys, type Identity } from '../../lib/format/keys.js'
import { blockName } from '../../lib/format/seal.js'
import { Circles } from '../../lib/partners/circle.js'
import { Holder } from '../../lib/partners/holder.js'
import { Invites } from '../../lib/partners/invite.js'
import { Roster } from '../../lib/partners/roster.js'
import { Vault } from '../../lib/vault/vault.js'

export interface PartnerNode {
  identity: Identity
  /** hex of the public key */
  id: string
  dir: string
  circles: Circles
  invites: Invites
  roster: Roster
  vault: Vault
  stop(): Promise<void>
}

export interface PartnerNodeOptions {
  identity?: Identity
  name?: string
  clock?: Clock
  /** of a node that was stopped */
  dir?: string
}

export async function openPartnerNode(
  t: Test,
  bootstrap: string,
  options: PartnerNodeOptions = {},
): Promise<PartnerNode> {
  const identity = options.identity ?? deriveIdentity(randomBytes(32))
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'kith-partner-'))
  const clock = options.clock ?? systemClock
  const log = silentLog()
  const db = Database.open(join(dir, 'partners'))
  const circles = new Circles(db, clock)
  const invites = new Invites(db, clock)
  const vault = await Vault.open(join(dir, 'vault'), {
    quotaBytes: 100_000_000,
    partnerKey: identity.id,
    clock,
    log,
  })
  const roster = await Roster.open({
    keyPair: identity.keyPair,
    name: options.name ?? 'somebody',
    bootstrap: [bootstrap],
    db,
    circles,
    invites,
    heldOwners: () => vault.owners().map(({ owner }) => owner),
    holdsFor: (key) => vault.knows(key),
    answererFor: (key, permissions) => new Holder(vault, key, permissions),
    clock,
    log,
  })
  let stopping: Promise<void> | undefined
  const stop = () =>
    (stopping ??= (async () => {
      await roster.stop()
      await vault.close()
      await db.close()
    })())
  t.teardown(async () => {
    await stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return { identity, id: identity.id.toString('hex'), dir, circles, invites, roster, vault, stop }
}

/** Both become members of a new circle, by the secret itself. */
export async function shareCircle(a: PartnerNode, b: PartnerNode, name = 'circle'): Promise<void> {
  const { secret } = await a.circles.create(name)
  await b.circles.add({ name, secret })
}

/** A head that the owner signed, over nothing real: for what only handles heads. */
export function someHead(owner: Identity, sequence: number, volumeId = Buffer.alloc(16, 1)): Buffer {
  return encodeHead(
    {
      owner: owner.id,
      volumeId,
      sequence,
      time: 1_700_000_000_000 + sequence,
      blocks: 1,
      bytes: 100,
      snapshots: { name: Buffer.alloc(32, 7), sealedBytes: 100 },
      wrappedKeys: wrapVolumeKeys(owner.kek, owner.id, volumeId, newVolumeKeys()),
      sealedState: sealOwnerState(owner.kek, owner.id, volumeId, { label: 'home', circles: [] }),
    },
    owner,
  )
}

/** Puts a block of the owner's and a head straight into a vault. */
export async function deposit(vault: Vault, owner: Identity, head?: Buffer): Promise<Buffer> {
  const bytes = randomBytes(200)
  const name = blockName(bytes)
  await vault.put(owner.id, name, bytes)
  await vault.commit(owner.id)
  if (head) await vault.putHead(owner.id, head)
  return name
}
