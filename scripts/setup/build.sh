# shellcheck shell=bash
# The build in dist/ that `npm start` runs.

ensure_build() {
  build_in_step && return
  say 'building dist/ from src/'
  quietly npm run --silent build || fail 'src/ cannot be built' "The builder's own words are above."
}

# A folder is newer than what was built of it also where a file was removed.
build_in_step() {
  [ -f dist/main.js ] &&
    [ -z "$(find src scripts/build rolldown.config.ts package-lock.json -newer dist/main.js -print -quit)" ]
}
