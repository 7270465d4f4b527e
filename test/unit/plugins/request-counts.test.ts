import { describe, expect, it } from 'vitest'
import { RequestCounts } from '../../../src/plugins/request-counts.ts'

const lineOf = (text: string, start: string) => text.split('\n').filter((line) => line.startsWith(start))

describe('RequestCounts', () => {
  it('counts by method, route and status, and sums up how long they took', () => {
    const counts = new RequestCounts()
    counts.add({ method: 'GET', route: '/a', status: 200, seconds: 0.001 })
    counts.add({ method: 'GET', route: '/a', status: 200, seconds: 0.25 })
    counts.add({ method: 'GET', route: '/a', status: 404, seconds: 400 })
    counts.add({ method: 'POST', route: '/a', status: 200, seconds: 0.3 })
    const text = counts.text()
    expect(lineOf(text, 'co_http_requests_total')).toEqual([
      'co_http_requests_total{method="GET",route="/a",status="200"} 2',
      'co_http_requests_total{method="GET",route="/a",status="404"} 1',
      'co_http_requests_total{method="POST",route="/a",status="200"} 1',
    ])
    const ofGet = 'method="GET",route="/a"'
    const bucket = (le: string) =>
      lineOf(text, `co_http_request_duration_seconds_bucket{${ofGet},le="${le}"}`)[0]?.split(' ')[1]
    expect(['0.005', '0.1', '0.25', '300', '+Inf'].map(bucket)).toEqual(['1', '1', '2', '2', '3'])
    expect(text).toContain(`co_http_request_duration_seconds_sum{${ofGet}} 400.251`)
    expect(text).toContain(`co_http_request_duration_seconds_count{${ofGet}} 3`)
    expect(lineOf(text, '# TYPE')).toEqual([
      '# TYPE co_http_requests_total counter',
      '# TYPE co_http_request_duration_seconds histogram',
    ])
    expect(text.endsWith('\n')).toBe(true)
  })

  it('keeps quotes and line breaks out of the format', () => {
    const counts = new RequestCounts()
    counts.add({ method: 'GET', route: '/"\\\n', status: 200, seconds: 1 })
    expect(lineOf(counts.text(), 'co_http_requests_total')).toEqual([
      'co_http_requests_total{method="GET",route="/\\"\\\\\\n",status="200"} 1',
    ])
  })
})
