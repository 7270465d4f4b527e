/** A caller of a service that runs as a process of its own. */
import { type Answer, Client } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'

export class ServiceClient extends Client {
  /** As `post`; throws where the answer is no success. */
  async ask(path: string, body: unknown): Promise<Answer['body']> {
    const answer = await this.post(path, body)
    if (answer.status >= 300) throw new Error(`POST ${path}: ${answer.status} ${answer.text}`)
    return answer.body
  }

  execute(session_id: string, script: string, more: Record<string, unknown> = {}): Promise<Answer['body']> {
    return this.ask('/containers/tool/execute', {
      tool_name: 'tool',
      session_id,
      image: TOOLBOX,
      command: ['sh', '-c', script],
      ...more,
    })
  }

  /** All the pages of a list. */
  async all(path: string): Promise<Answer['body'][]> {
    const { body } = await this.get(`${path}${path.includes('?') ? '&' : '?'}limit=1000`)
    return body.items
  }

  /** A run, once it has ended. */
  async ended(executionId: string, withinMs = 60_000): Promise<Answer['body']> {
    const until = performance.now() + withinMs
    for (;;) {
      const { body } = await this.get(`/containers/tool/${executionId}`)
      if (!['queued', 'preparing', 'running'].includes(body.status)) return body
      if (performance.now() > until) throw new Error(`run ${executionId} is still ${body.status}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
