/**
 * Who claims to be somebody else. Whoever knocks names its key in the first message of the handshake and proves there that it has the
 * secret one; a proof that fails ends the handshake within hyperdht, without a word. Here it is seen, so that it can be told.
 */
import type { Server } from 'hyperdht'

/** @param onFalse a knock named this key, and its proof failed */
export function watchClaims(server: Server, onFalse: (key: Buffer) => void): void {
  const make = server.createHandshake
  server.createHandshake = (...of) => {
    const handshake = make(...of)
    const receive = handshake.recv.bind(handshake)
    handshake.recv = (message) => {
      try {
        return receive(message)
      } catch (error) {
        const { rs } = handshake.handshake
        if (rs) onFalse(Buffer.from(rs))
        throw error
      }
    }
    return handshake
  }
}
