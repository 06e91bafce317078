/** The methods of the control interface (api.ts), each by the part that does it. */
import { placement } from './placement.js'
import { deriveIdentity } from '../format/keys.js'
import { newPhrase, parsePhrase } from '../format/phrase.js'
import { check } from './check.js'
import { offer, partnerInfo, seek } from './agreement.js'
import { away } from './away.js'
import type { Handlers } from './control-server.js'
import type { Daemon } from './daemon.js'
import { decommission, decommissionPlan } from './decommission.js'
import { cat, diff, find, ls } from './read-back.js'
import { exclude, wouldExclude } from './excludes.js'
import { limit } from './limit.js'
import { recover } from './recover.js'
import { repair } from './repair.js'
import { restore, restorePlan } from './restore-job.js'
import { forget, policy, prune } from './retention.js'
import { status } from './status.js'
import { sync } from './sync.js'
import { why } from './why.js'

/** A snapshot of fewer files is over before anybody reads of its progress; a note costs as much as reading some of them. */
const notedFiles = 100

export function handlers(daemon: Daemon): Handlers {
  return {
    hello: async () => ({
      version: daemon.version,
      pid: process.pid,
      home: daemon.home.dir,
      id: daemon.running?.id ?? null,
    }),
    stop: async () => {
      setImmediate(() => daemon.stop()) // after the reply is written
      return { pid: process.pid }
    },
    configure: async ({ bootstrap }) => {
      const before = daemon.config.settings.bootstrap
      if (bootstrap && bootstrap.join() !== before.join()) {
        daemon.config.set({ bootstrap })
        return { restartNeeded: daemon.running !== undefined }
      }
      return { restartNeeded: false }
    },
    init: ({ name }) => {
      if (name !== undefined && !daemon.running) daemon.config.set({ name })
      const phrase = newPhrase()
      const identity = deriveIdentity(parsePhrase(phrase))
      const answer = { id: identity.id.toString('hex'), name: daemon.config.name, phrase }
      return daemon.become(identity, { prove: async () => answer, failed: () => undefined })
    },
    status: ({ dir }) => status(daemon, dir),
    ...volumeHandlers(daemon),
    ...partnerHandlers(daemon),
  }
}

type VolumeMethod =
  | 'mount'
  | 'unmount'
  | 'decommissionPlan'
  | 'decommission'
  | 'snapshot'
  | 'snapshots'
  | 'mark'
  | 'forget'
  | 'policy'
  | 'prune'
  | 'budget'
  | 'placement'
  | 'schedule'
  | 'exclude'
  | 'wouldExclude'
  | 'sync'
  | 'restore'
  | 'restorePlan'
  | 'browse'
  | 'browseStop'
  | 'ls'
  | 'cat'
  | 'diff'
  | 'find'
  | 'recover'
  | 'check'
  | 'repair'

function volumeHandlers(daemon: Daemon): Pick<Handlers, VolumeMethod> {
  return {
    mount: async ({ dir, engine = 'fuse', excludes, share }) => {
      const { browses, partners, volumes } = daemon.services
      await browses.refuse(dir)
      const circle = share === undefined ? undefined : partners.circleSecret(share)
      const mounted = await volumes.mount(dir, engine, excludes, circle?.secret)
      return { ...mounted, ...(circle && { sharedWith: circle.name }) }
    },
    exclude: (params) => exclude(daemon.services, params),
    wouldExclude: (params, job) => wouldExclude(daemon.services, params, job),
    unmount: async ({ dir }) => {
      const volume = await daemon.services.volumes.find(dir)
      return { dir: volume.dir, ...(await volume.unmount()) }
    },
    decommissionPlan: (params) => decommissionPlan(daemon.services, params),
    decommission: (params) => decommission(daemon.services, params),
    snapshot: async ({ dir, tags, pinned }, { signal, progress }) => {
      const volume = await daemon.services.volumes.find(dir)
      return volume.snapshot({
        signal,
        ...(tags && { tags }),
        ...(pinned !== undefined && { pinned }),
        progress: ({ files }) => {
          if (files >= notedFiles) progress({ stage: 'snapshot', done: files, total: 0, unit: 'files' })
        },
      })
    },
    snapshots: async ({ dir }) => (await daemon.services.volumes.find(dir)).stored.snapshots(),
    mark: async ({ dir, snapshots, pinned, tags, addTags, removeTags }) => {
      const change = { ...(pinned !== undefined && { pinned }), ...(tags && { tags }) }
      const edits = { ...(addTags && { addTags }), ...(removeTags && { removeTags }) }
      return (await daemon.services.volumes.find(dir)).mark(snapshots, { ...change, ...edits })
    },
    forget: (params) => forget(daemon.services, params),
    schedule: (params) => daemon.services.schedule(params),
    policy: (params) => policy(daemon.services, params),
    budget: (params) => daemon.services.space.set(params),
    placement: async (params) => placement(daemon.services, params),
    prune: (params, job) => prune(daemon.services, params, job),
    sync: (params, job) => sync(daemon.services, params, job),
    restore: (params, job) => restore(daemon.services, params, job),
    restorePlan: (params, job) => restorePlan(daemon.services, params, job),
    browse: (params, job) => daemon.services.browses.run(daemon.services, params, job),
    browseStop: (params) => daemon.services.browses.stop(params),
    ls: (params, job) => ls(daemon.services, params, job),
    cat: (params, job) => cat(daemon.services, params, job),
    diff: (params, job) => diff(daemon.services, params, job),
    find: (params, job) => find(daemon.services, params, job),
    recover: (params, job) => recover(daemon, params, job),
    check: (params, job) => check(daemon.services, params, job),
    repair: (params, job) => repair(daemon.services, params, job),
  }
}

type PartnerMethod =
  | 'circleCreate'
  | 'invite'
  | 'join'
  | 'partners'
  | 'why'
  | 'audit'
  | 'offer'
  | 'seek'
  | 'limit'
  | 'away'
  | 'agreement'
  | 'agreementRenew'
  | 'agreementEnd'

function partnerHandlers(daemon: Daemon): Pick<Handlers, PartnerMethod> {
  return {
    circleCreate: async ({ name }) => {
      const circle = await daemon.services.partners.createCircle(name)
      await daemon.services.renewHeads()
      return { name: circle.name, id: circle.id }
    },
    invite: async ({ circle }) => {
      const invite = await daemon.services.partners.invite(circle)
      return { code: invite.code, circle: invite.circle }
    },
    join: async ({ code }) => {
      const { circle } = await daemon.services.partners.join(code)
      await daemon.services.renewHeads()
      return { circle: circle.name, id: circle.id }
    },
    why: async () => why(daemon.services),
    partners: async () => ({ partners: daemon.services.partners.list().map(partnerInfo) }),
    offer: async (params) => offer(daemon.services, params),
    seek: async (params) => seek(daemon.services, params),
    away: (params) => away(daemon.services, params),
    limit: async (params) => limit(daemon.services, params),
    agreement: async ({ partner }) => partnerInfo(daemon.services.partners.partner(partner)),
    agreementRenew: async ({ partner, holds, wants }) => {
      const sizes = { ...(holds !== undefined && { holds }), ...(wants !== undefined && { wants }) }
      const changed = await daemon.services.partners.renegotiate(partner, sizes)
      return { partner: partnerInfo(changed.partner), told: changed.told }
    },
    agreementEnd: async ({ partner }) => {
      const changed = await daemon.services.partners.endAgreement(partner)
      return { partner: partnerInfo(changed.partner), told: changed.told }
    },
    audit: async ({ full }) => {
      const results = await daemon.services.partners.audit({ full })
      const partners = results.map(({ id, name, online, asked, proven, failed, trouble }) => {
        return { id, name, online, asked, proven, failed, faults: trouble }
      })
      return { partners }
    },
  }
}
