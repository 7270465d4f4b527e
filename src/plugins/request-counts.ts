/** Upper bounds of the buckets of durations, in seconds. */
const BUCKETS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300]

interface Line {
  labels: string
  /** Answers by status. */
  statuses: Map<number, number>
  /** Answers within each bucket, and not within the one before. */
  buckets: number[]
  count: number
  seconds: number
}

/** Counts requests and how long they took, for two map look-ups each; tells them in the text format of Prometheus. */
export class RequestCounts {
  readonly #routes = new Map<string, Map<string, Line>>()

  add({ method, route, status, seconds }: { method: string; route: string; status: number; seconds: number }): void {
    const line = this.#line(method, route)
    line.statuses.set(status, (line.statuses.get(status) ?? 0) + 1)
    const bucket = BUCKETS.findIndex((bound) => seconds <= bound)
    if (bucket >= 0) line.buckets[bucket] = (line.buckets[bucket] ?? 0) + 1
    line.count += 1
    line.seconds += seconds
  }

  text(): string {
    const lines = [...this.#routes.values()].flatMap((methods) => [...methods.values()])
    return [
      '# HELP co_http_requests_total Requests answered',
      '# TYPE co_http_requests_total counter',
      ...lines.flatMap(({ labels, statuses }) =>
        [...statuses].map(([status, count]) => `co_http_requests_total{${labels},status="${status}"} ${count}`),
      ),
      '# HELP co_http_request_duration_seconds Time from a request to the end of its answer',
      '# TYPE co_http_request_duration_seconds histogram',
      ...lines.flatMap(durationsOf),
      '',
    ].join('\n')
  }

  #line(method: string, route: string): Line {
    const methods = this.#routes.get(route) ?? new Map<string, Line>()
    this.#routes.set(route, methods)
    const line = methods.get(method)
    if (line !== undefined) return line
    const labels = `method="${escaped(method)}",route="${escaped(route)}"`
    const fresh: Line = { labels, statuses: new Map(), buckets: BUCKETS.map(() => 0), count: 0, seconds: 0 }
    methods.set(method, fresh)
    return fresh
  }
}

/** Each bucket has those of the ones before, too. */
function durationsOf({ labels, buckets, count, seconds }: Line): string[] {
  const name = 'co_http_request_duration_seconds'
  let within = 0
  const bounds = BUCKETS.map((bound, index) => {
    within += buckets[index] ?? 0
    return `${name}_bucket{${labels},le="${bound}"} ${within}`
  })
  return [
    ...bounds,
    `${name}_bucket{${labels},le="+Inf"} ${count}`,
    `${name}_sum{${labels}} ${seconds}`,
    `${name}_count{${labels}} ${count}`,
  ]
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
