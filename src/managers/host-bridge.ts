/** The bridge of a network as the engine's host has it, where this process runs there. */
import { readFile, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'

const SETTINGS = '/proc/sys/net/ipv4/conf'

/** Its name bears the network's id, so a network of another engine is not mistaken for it. */
function bridgeOf(networkId: string): string {
  return `br-${networkId.slice(0, 12)}`
}

/** IPv4 addresses of this machine on the bridge of a network. */
export function hostAddressesOn(networkId: string): string[] {
  const entries = networkInterfaces()[bridgeOf(networkId)] ?? []
  return entries.flatMap(({ family, address }) => (family === 'IPv4' ? [address] : []))
}

/** Whether the host takes datagrams from a bridge that has no address; unknown from elsewhere. */
export type Datagrams = 'refused' | 'taken' | 'unknown'

/**
 * Makes the host refuse what comes in by a bridge without an address. Answers have no way back there, but
 * a datagram (to any address of the host, to all, or to a group) arrives where sources are not checked;
 * `rp_filter` checks them, and nothing from such a bridge passes. Takes root; otherwise it answers what is.
 */
export async function refuseDatagrams(networkId: string): Promise<Datagrams> {
  const file = `${SETTINGS}/${bridgeOf(networkId)}/rp_filter`
  try {
    if (await isFiltered(file)) return 'refused'
    await writeFile(file, '1')
  } catch (error) {
    // Without such an interface, this is not the engine's host.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'unknown'
  }
  return (await isFiltered(file).catch(() => false)) ? 'refused' : 'taken'
}

/** The higher of the machine's setting and the interface's holds. */
async function isFiltered(file: string): Promise<boolean> {
  const [all, own] = await Promise.all([readFile(`${SETTINGS}/all/rp_filter`, 'utf8'), readFile(file, 'utf8')])
  return Number(all) > 0 || Number(own) > 0
}
