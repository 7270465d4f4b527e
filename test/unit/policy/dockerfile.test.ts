import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { baseImages, requireAllowedDockerfile } from '../../../src/policy/dockerfile.ts'
import { thrown } from '../support/streams.ts'

const ANY = ['*']
const SOME = ['python:*', 'alpine']

const check = (text: string, images: readonly string[] = ANY) => requireAllowedDockerfile(text, [images])
function expectDenied(text: string, images: readonly string[] = ANY): void {
  expect(thrown(() => check(text, images))).toMatchObject({
    name: 'AppError',
    code: 'policy_denied',
    details: { rule: expect.stringMatching(/^(dockerfile|image)$/) },
  })
}
const expectAllowed = (text: string, images: readonly string[] = ANY) => expect(check(text, images)).toBeUndefined()

describe('a build', () => {
  it('may do what builds ordinarily do', () => {
    expectAllowed(`
      # A comment, and in it https://example.com and ADD http://example.com
      ARG VERSION=3.13
      FROM --platform=linux/amd64 python:3.13-slim AS Builder
      LABEL url="https://example.com/"
      RUN pip install --no-cache-dir requests \\
          # a comment between the lines
          && curl https://example.com/x -o /x
      COPY --chown=1000:1000 app.py /app/
      COPY ["a file.txt", "/app/"]
      ADD archive.tar.gz /data/
      ADD ["one file.txt", "/data/"]
      FROM alpine
      COPY --from=builder /x /x
      COPY --from=0 /x /y
      ENTRYPOINT ["python", "https://example.com"]
    `)
  })

  it('may come with the line ends of Windows and without an end', () => {
    expectAllowed('FROM python:3.13\r\nRUN a \\\r\n  && b\r\nCMD ["x"]', SOME)
    expectDenied('FROM python:3.13\r\nADD \\\r\n  http://example.com/x /x', SOME)
  })

  it('may end with a line that goes on, and have lines without a word', () => {
    expectAllowed('FROM alpine\n\\')
    expectAllowed('FROM alpine\n\\\n\nRUN true\n\\\n')
  })

  it.each([
    'FROM \\\n alpine',
    'FROM --platform=linux/amd64 alpine',
    // A backslash within a line continues nothing.
    'FROM alpine\nCOPY a\\b /c\nRUN printf "a" --b="c"',
    // Of several backslashes only the last of its line goes: "/pro c" is not "/proc".
    'FROM alpine\nWORKDIR /pro\\ c\\\n',
    'FROM alpine AS',
    'FROM alpine\nHEALTHCHECK --interval="5s" CMD true',
    'FROM alpine\nRUN printf a\\b',
    'FROM alpine\nRUN --from=evil/image true',
    'FROM alpine\nLABEL --mount=x y',
    'FROM alpine\nRUN --x=--mount true',
    'FROM alpine\nADD xgit@y /x',
    'FROM alpine\nADD x.gitignore /x',
    'FROM alpine\nRUN echo "# syntax=x"',
    'FROM alpine\nWORKDIR /pro c',
    'FROM alpine\nCOPY --chown=1:1 --chmod=755',
    `${'FROM alpine\n'.repeat(12)}COPY --from=10 /a /b`,
  ])('may say %j', (text) => {
    expectAllowed(text, SOME)
  })

  it.each([
    'FROM alpine\nONBUILD RUN true \\',
    'FROM alpine IS evil\nFROM evil',
    'FROM alpine\nCOPY --from=0 /a /b',
    // Numbers to JavaScript, names to a parser.
    'FROM alpine\nFROM alpine\nCOPY --from=0x0 /a /b',
    'FROM alpine\nFROM alpine\nCOPY --from=0e1 /a /b',
    'FROM alpine\nFROM alpine\nCOPY --from=+0 /a /b',
    'FROM alpine\nCOPY --from=evil/image',
    'FROM alpine\nRUN --mount=type=ssh',
    'WORKDIR proc',
    'FROM alpine\nCOPY \\\\\n--from=evil/image /a /b',
    'FROM alpine\nCOPY \\\\ \t\n--from=evil/image /a /b',
    '{ "syntax":"x"}\nFROM alpine',
    'FROM alpine\nADD ["git@example.com:o/r","/x"]',
    'FROM alpine\nADD ["a","o/r.git","/x"]',
    'FROM alpine\nADD [ "o/r.git" ] /x',
    'FROM alpine\n  \tADD\t--chown=1  http://example.com/x  /x',
  ])('may not say %j', (text) => {
    expectDenied(text, SOME)
  })

  it('names no image where it has none', () => {
    expect(thrown(() => check('FROM', SOME))).toMatchObject({ message: expect.stringContaining('Image ""') })
  })

  it.each(['--mount', '--network', '--device'])('may run a command with a %s option of its own', (option) => {
    expectAllowed(`FROM alpine\nRUN ./configure ${option}=eth0`)
  })
})

describe('a syntax or escape line', () => {
  it.each([
    '# syntax=docker/dockerfile:1',
    '#syntax = evil/frontend',
    '  #  SYNTAX=evil/frontend',
    '# escape=`',
    '\uFEFF# syntax=evil/frontend',
    '#!/usr/bin/env docker\n# syntax=evil/frontend',
    '// syntax=evil/frontend',
    '{"syntax":"evil/frontend"}',
  ])('is refused: %s', (line) => {
    expectDenied(`${line}\nFROM alpine`)
  })
})

describe('an ADD of a remote source is refused', () => {
  it.each([
    'http://169.254.169.254/latest',
    'https://example.com/x',
    'HTTP://example.com/x',
    'ftp://example.com/x',
    'git://example.com/x',
    'ssh://git@example.com/x',
    'git@github.com:o/r.git',
    'github.com/o/r.git',
    'github.com/o/r.git#main:folder',
    'https://github.com/o/r.git',
  ])('%s', (source) => {
    expectDenied(`FROM alpine\nADD ${source} /x`)
    expectDenied(`FROM alpine\nadd --chown=1:1 local ${source} /x`)
    expectDenied(`FROM alpine\n\tADD\t${source}\t/x`)
  })

  it.each([
    ['in JSON', 'ADD ["http://example.com/x", "/x"]'],
    ['in JSON with spaces', 'ADD [ "http://example.com/x" , "/x" ]'],
    ['in JSON without spaces', 'ADD ["a","http://example.com/x","/x/"]'],
    ['in JSON with an escape', 'ADD ["\\u0068ttp://example.com/x", "/x"]'],
    ['by an argument', 'ARG U=http://example.com/x\nADD $U /x'],
    ['by an argument in braces', `ADD $\{U:-http://example.com/x} /x`],
    ['by a variable', `ENV U http://example.com/x\nADD $\{U} /x`],
    ['in quotes', 'ADD "http://example.com/x" /x'],
    ['with quotes inside', 'ADD h"tt"p://example.com/x /x'],
    ['with single quotes inside', "ADD ht'tp'://example.com/x /x"],
    ['with a backslash inside', 'ADD h\\ttp://example.com/x /x'],
    ['on a line of its own', 'ADD \\\n  http://example.com/x /x'],
    ['behind a blank continuation', 'ADD \\\n\n  http://example.com/x /x'],
    ['behind a blank continuation of spaces', 'ADD \\\n   \t\n  http://example.com/x /x'],
    ['behind a comment', 'ADD \\\n# comment\n  http://example.com/x /x'],
    ['with the keyword cut in two', 'AD\\\nD http://example.com/x /x'],
    ['with the address cut in two', 'ADD ht\\\ntp://example.com/x /x'],
    ['with spaces behind the continuation', 'ADD ht\\  \t\ntp://example.com/x /x'],
    // Two backslashes continue a line for Docker 20.10, and end it for later parsers.
    ['behind a doubled backslash', 'LABEL a=\\\\\nADD http://example.com/x /x'],
    ['behind a tripled backslash', 'LABEL a=\\\\\\\nADD http://example.com/x /x'],
    // Go's decoder stops behind the array, and an escape hides what the array says.
    ['in JSON with words behind it', 'ADD ["\\u0068ttp\\u003a\\u002f\\u002fexample.com/x","/x"] y'],
    // U+0085 is a space to Go and none to JavaScript; U+FEFF is one to JavaScript alone.
    ['in JSON behind a space of Go', 'ADD \u0085["\\u0068ttp\\u003a\\u002f\\u002fexample.com/x","/x"]'],
    ['behind a comment that begins with a space of Go', '\u0085# comment \\\nADD http://example.com/x /x'],
    ['behind what is a comment to JavaScript alone', 'LABEL a=b \\\n\uFEFF#=y\nADD http://example.com/x /x'],
    ['on a last line that is continued by nothing', 'ADD http://example.com/x /x \\\\'],
    ['on lines of which the last goes on to nothing', 'AD\\\nD http://example.com/x /x \\'],
    ['in an array that is none', 'ADD ["http://example.com/x", /x'],
    ['as a trigger for later builds', 'ONBUILD ADD http://example.com/x /x'],
  ])('%s', (_, instruction) => {
    expectDenied(`FROM alpine\n${instruction}\n`)
    expectDenied(`FROM alpine\n${instruction}`)
  })

  it('however its line is continued', () => {
    const instruction = 'ADD http://example.com/x /x'
    const continuation = fc.constantFrom('\\\n', '\\ \n', '\\\r\n', '\\\n\n', '\\\n# comment\n', '\\\n  # c\n\t\n')
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(instruction.length - 1), continuation), { maxLength: 4 }), (places) => {
        let text = instruction
        for (const [place, between] of places.toSorted(([a], [b]) => b - a)) {
          text = text.slice(0, place) + between + text.slice(place)
        }
        // At the beginning of the line a comment's end would be the beginning of the instruction.
        fc.pre(!text.startsWith('\\'))
        expectDenied(`FROM alpine\n${text}\n`)
      }),
    )
  })
})

describe('a base image', () => {
  it('must be one that the operator allows', () => {
    expectAllowed('FROM python:3.13', SOME)
    expectDenied('FROM evil/image', SOME)
    expectDenied('FROM python:3.13\nFROM evil/image', SOME)
    expectDenied('FROM --platform=linux/arm64 evil/image AS python:3.13', SOME)
    expectDenied('from evil/image', SOME)
    expectDenied('FROM \\\n\n evil/image', SOME)
    expectDenied('FR\\\nOM evil/image', SOME)
    expectDenied('FROM', SOME)
  })

  it('may be scratch or a stage before', () => {
    expectAllowed('FROM scratch', SOME)
    expectAllowed('FROM alpine AS Base\nFROM base AS second\nFROM SECOND', SOME)
  })

  it('is not a stage of its own line, nor one that comes later', () => {
    expectDenied('FROM evil AS evil', SOME)
    expectDenied('FROM later\nFROM alpine AS later', SOME)
  })

  it('is an image where its name is a number: only COPY counts stages', () => {
    expectDenied('FROM alpine\nFROM 0', SOME)
  })

  it('may be decided by an argument only where every image is allowed', () => {
    expectAllowed('ARG B\nFROM $B', ANY)
    expectDenied('ARG B\nFROM $B', SOME)
    expectDenied(`ARG B\nFROM python:$\{B}`, SOME)
  })
})

describe('COPY --from', () => {
  it('takes from stages before and from allowed images', () => {
    expectAllowed('FROM alpine AS one\nFROM alpine\nCOPY --from=one /a /a\nCOPY --from=0 /b /b', SOME)
    expectAllowed('FROM alpine\nCOPY --chown=1:1 --from=python:3.13 /a /a', SOME)
  })

  it.each([
    'COPY --from=evil/image /a /a',
    'COPY --chown=1:1 --from=evil/image /a /a',
    'copy --from=evil/image /a /a',
    'COPY --from=1 /a /a',
    'COPY --from=$B /a /a',
    'COPY --fr\\\nom=evil/image /a /a',
    // The parser takes quotes and backslashes out of a flag.
    'COPY --fr"om"=evil/image /a /a',
    'COPY --fr\\om=evil/image /a /a',
    // A quoted space is part of the flag before, and one of Go's divides two flags.
    'COPY --chown="a b" --from=evil/image /a /a',
    'COPY --chown=a\\ b --from=evil/image /a /a',
    'COPY --chown=0\u0085--from=evil/image /a /a',
  ])('refuses %s', (instruction) => {
    expectDenied(`FROM alpine\n${instruction}`, SOME)
  })
})

describe('RUN', () => {
  it.each([
    'RUN --mount=type=bind,from=evil/image,target=/x true',
    'RUN --network=host true',
    'RUN --security=insecure true',
    'RUN --device=nvidia.com/gpu true',
    'run --mount=type=secret,id=x true',
    'RUN --network=none --mount=type=ssh true',
    'RUN \\\n --mount=type=ssh true',
    'RUN --mo\\\nunt=type=ssh true',
    'RUN --mo\\unt=type=ssh true',
    'RUN --"mount"=type=ssh true',
  ])('refuses %s', (instruction) => {
    expectDenied(`FROM alpine\n${instruction}`)
  })
})

describe('ONBUILD', () => {
  it.each(['ONBUILD RUN true', 'onbuild COPY a b', 'ON\\\nBUILD RUN true'])('is refused: %s', (instruction) => {
    expectDenied(`FROM alpine\n${instruction}`)
  })
})

describe('a refusal', () => {
  it.each([
    ['# syntax=x', /^The Dockerfile is refused: "syntax" and "escape" lines/],
    ['RUN a\u0085b', /white space other than/],
    ['COPY "--from=alpine" /a /b', undefined],
    ['COPY --ch"own=1 /a /b', /quotes and backslashes in flags/],
    ['ADD a\\b /x', /backslashes in ADD/],
    ['ADD http://example.com/x /x', /ADD of a remote source.*build\.files and COPY/],
    ['RUN --network=host true', /RUN with --mount, --network, --security or --device/],
    ['ONBUILD RUN true', /ONBUILD is not allowed/],
    ['WORKDIR $A', /WORKDIR with a variable.*write the folder out/],
    ['WORKDIR /proc', /WORKDIR under \/proc, \/sys or \/dev/],
  ])('of %j says why', (line, message) => {
    if (message === undefined) return expectAllowed(`FROM alpine\n${line}`)
    expect(thrown(() => check(`FROM alpine\n${line}`))).toMatchObject({
      message: expect.stringMatching(message),
      details: { rule: 'dockerfile' },
    })
  })

  it('of a base image names it, also where an argument decides', () => {
    expect(thrown(() => check('FROM evil/x', SOME))).toMatchObject({ message: expect.stringContaining('"evil/x"') })
    expect(thrown(() => check('FROM $B', SOME))).toMatchObject({
      message: 'The Dockerfile is refused: the base image "$B" depends on an argument',
    })
  })
})

describe('WORKDIR', () => {
  it.each([
    'WORKDIR /app',
    'WORKDIR app\nWORKDIR ../x',
    'WORKDIR /process',
    'WORKDIR /srv/proc/sys',
    'WORKDIR "/a b"',
    'workdir /',
  ])('may be any folder of the image: %s', (lines) => {
    expectAllowed(`FROM alpine\n${lines}`)
  })

  it.each([
    'WORKDIR /proc',
    'WORKDIR /proc/self/fd/8',
    'workdir /sys/kernel',
    'WORKDIR /dev/fd/7',
    'WORKDIR proc/self/fd/8',
    'WORKDIR /app/../proc/self',
    'WORKDIR ../../proc',
    'WORKDIR //proc/self',
    'WORKDIR /app\nWORKDIR ../proc',
    'WORKDIR /app\nWORKDIR ../../../sys',
    'WORKDIR "/proc/self"',
    "WORKDIR '/pr'oc",
    'WORKDIR /pr\\oc',
    'WORKDIR \\\n/proc',
    'WORKDIR $X',
    `WORKDIR /app/$\{X:-..}/proc`,
  ])('is refused in the file systems of the kernel, and where a variable decides: %s', (lines) => {
    expectDenied(`FROM alpine\n${lines}`)
  })

  it('begins at the root in each stage', () => {
    expectAllowed('FROM alpine AS a\nWORKDIR /app\nFROM alpine\nWORKDIR data')
    expectDenied('FROM alpine AS a\nWORKDIR /app\nFROM a\nWORKDIR ../proc')
    expectDenied('FROM alpine\nWORKDIR /a\nFROM alpine\nWORKDIR proc')
  })
})

describe('several lists of images', () => {
  const lists =
    (text: string, ...images: string[][]) =>
    () =>
      requireAllowedDockerfile(text, images)

  it('have to allow each base image, all of them', () => {
    expect(lists('FROM alpine', ['*'], ['alpine'])()).toBeUndefined()
    expect(thrown(lists('FROM alpine', ['*'], ['python:*']))).toMatchObject({ details: { rule: 'image' } })
    expect(lists('FROM alpine')()).toBeUndefined()
  })

  it('have to allow everything where an argument decides', () => {
    expect(lists('FROM $B', ['*'], ['x', '*'])()).toBeUndefined()
    expect(thrown(lists('FROM $B', ['*'], ['alpine']))).toMatchObject({ details: { rule: 'dockerfile' } })
  })
})

it.each([
  ['empty lines', '\n'],
  ['carriage returns', '\r'],
  ['one long flag', 'a', 'COPY --'],
  ['many flags', '--a ', 'COPY '],
  ['continued lines', 'a\\\n', 'RUN '],
  ['backslashes', '\\', 'RUN '],
  ['backslashes apart', '\\ ', 'RUN '],
  ['comments', '#\n'],
])('a text of 256 KiB is read in a moment: %s', (_name, part, before = '') => {
  const text = `FROM alpine\n${before}`
  // A quadratic pass would not end before the test has to.
  expectAllowed(text + part.repeat((256 * 1024 - text.length) / part.length))
})

describe('baseImages', () => {
  const of = (...lines: string[]) => [...baseImages(lines.join('\n'))]

  it('are what is built from and copied from, each once, and no stage', () => {
    expect(
      of(
        'FROM python:3.13 AS Builder',
        'FROM scratch',
        'COPY --from=builder /a /a',
        'COPY --from=0 /b /b',
        'COPY --from=team/tools:1 /c /c',
        'FROM builder',
        'FROM python:3.13',
      ),
    ).toEqual(['python:3.13', 'team/tools:1'])
    expect(of('RUN true')).toEqual([])
  })

  it('are those of either reading of a line that ends in several backslashes', () => {
    expect(of('FROM alpine', 'LABEL a=\\\\', 'FROM debian')).toEqual(['alpine', 'debian'])
    expect(of('FROM alpine', 'LABEL a=\\', 'FROM debian')).toEqual(['alpine'])
  })

  it('hold the word where an argument decides', () => {
    expect(of('ARG BASE', 'FROM $BASE')).toEqual(['$BASE'])
  })
})
