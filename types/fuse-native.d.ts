// The part of fuse-native 2 that kith uses, with the methods that lib/mount/browse-worker.ts puts others in the place of.
declare module 'fuse-native' {
  /** Ends an operation: 0 or a count, or a negative errno. */
  type Done = (result: number) => void

  export interface FuseStat {
    mode: number
    uid: number
    gid: number
    size: number
    nlink: number
    rdev: number
    blksize: number
    blocks: number
    /** ms since 1970, not before */
    atime: number
    mtime: number
    ctime: number
  }

  export interface FuseStatfs {
    bsize: number
    frsize: number
    namemax: number
  }

  export interface FuseOperations {
    statfs(path: string, done: (error: number, stat?: FuseStatfs) => void): void
    getattr(path: string, done: (error: number, stat?: FuseStat) => void): void
    readdir(path: string, done: (error: number, names?: string[]) => void): void
    open(path: string, flags: number, done: (error: number, handle?: number) => void): void
    read(path: string, handle: number, into: Buffer, length: number, offset: number, done: Done): void
    readlink(path: string, done: (error: number, target?: string) => void): void
    getxattr(
      path: string,
      name: string,
      position: number,
      done: (error: number, value?: Buffer) => void,
    ): void
    listxattr(path: string, done: (error: number, names?: string[]) => void): void
  }

  export default class Fuse {
    constructor(mountpoint: string, operations: FuseOperations, options: { timeout: false })
    mount(done: (error: Error | null) => void): void
    /** the options as libfuse takes them: `-oA,B` */
    _fuseOptions(): string
    /** `signal` takes the result and the memory of `into`; `into` is empty when only the length is asked for */
    _op_getxattr(
      signal: (result: number, memory: ArrayBufferLike) => void,
      path: string,
      name: string,
      into: Buffer,
    ): void
    _op_listxattr(signal: (result: number, memory: ArrayBufferLike) => void, path: string, into: Buffer): void
  }
}
