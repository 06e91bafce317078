/**
 * The home of a node (KITH_HOME): where things lie, who may read them, and the keys file.
 *
 *     keys           0600 identity seed and key-encrypting key; never the phrase
 *     config.json    settings (config.ts)
 *     kithd.lock     held by the running daemon (lock.ts);  kithd.sock  control socket;  kithd.log
 *     store/         the owner's own blocks and index
 *     vault/         blocks held for others
 *     partners/      circles and what is known of partners
 *     mounts/ID/     one folder per protected directory: shared change log, socket and log of kith-fuse
 *
 * The keys file, 112 bytes:
 *
 *     [0..8)     `kithkeys`
 *     [8]        version = 1   [9..16) 0
 *     [16..48)   identity seed
 *     [48..80)   key-encrypting key
 *     [80..112)  hash of all before it, namespace `kith keys file`
 *
 * It is written beside its place, synced, and renamed: after a crash it is there whole or not at all.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KithError } from '../base/errors.js'
import { writeDurably } from '../base/durable.js'
import { errnoCode } from '../base/posix.js'
import { hash } from '../format/hash.js'
import { identityFrom, type Identity } from '../format/keys.js'

const magic = Buffer.from('kithkeys', 'ascii')
const keysBytes = 112

export class Home {
  /** absolute and free of symlinks */
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  /** Makes the home when it is not there. Refuses one that others own or may enter. */
  static open(path: string): Home {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const dir = realpathSync(path)
    const stat = statSync(dir)
    if (stat.uid !== process.getuid?.()) {
      throw new KithError('denied', `${dir} belongs to another user; give a --home of your own`)
    }
    if ((stat.mode & 0o077) !== 0) {
      throw new KithError('denied', `${dir} is open to other users; run: chmod 700 ${dir}`)
    }
    return new Home(dir)
  }

  file(name: 'keys' | 'config.json' | 'kithd.lock' | 'kithd.log' | 'kithd.sock'): string {
    return join(this.dir, name)
  }

  /** A folder of the home, made when it is not there. */
  folder(name: 'store' | 'vault' | 'partners' | 'mounts'): string {
    const dir = join(this.dir, name)
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    return dir
  }

  /** Undefined before `init`. Throws `denied` when others may read the file, `damaged` when it is not whole. */
  identity(): Identity | undefined {
    const file = this.file('keys')
    let fd
    try {
      fd = openSync(file, 'r')
    } catch (error) {
      if (errnoCode(error) === 'ENOENT') return undefined
      throw error
    }
    try {
      if ((fstatSync(fd).mode & 0o077) !== 0) {
        throw new KithError('denied', `${file} can be read by other users; run: chmod 600 ${file}`)
      }
      return decodeKeys(readFileSync(fd), file)
    } finally {
      closeSync(fd)
    }
  }

  /** Throws `exists` when the home has an identity already. */
  keepIdentity(identity: Identity): void {
    if (this.identity())
      throw new KithError('exists', `${this.dir} has an identity already; give another --home`)
    writeDurably(this.file('keys'), encodeKeys(identity))
  }
}

function encodeKeys({ seed, kek }: Identity): Buffer {
  const head = Buffer.alloc(16)
  magic.copy(head)
  head.writeUInt8(1, 8)
  const body = Buffer.concat([head, seed, kek])
  return Buffer.concat([body, hash('kith keys file', body)])
}

function decodeKeys(bytes: Buffer, file: string): Identity {
  const whole =
    bytes.length === keysBytes &&
    bytes.subarray(0, 8).equals(magic) &&
    hash('kith keys file', bytes.subarray(0, 80)).equals(bytes.subarray(80))
  if (!whole) {
    throw new KithError('damaged', `${file} is damaged; move the home away and recover from the phrase`)
  }
  if (bytes.readUInt8(8) !== 1) throw new KithError('unsupported', `${file} is of a newer kith; update kith`)
  return identityFrom(bytes.subarray(16, 48), bytes.subarray(48, 80))
}
