# shellcheck shell=bash
# The build in dist/ that `npm start` runs.

readonly BUILT=dist/.built

ensure_build() {
  build_in_step && return
  say 'building dist/ from src/'
  local began
  # What changes while it is built is newer than this.
  began=$(mktemp)
  quietly npm run --silent build || fail 'src/ cannot be built' "The builder's own words are above."
  # Last of all, with the time of the beginning: a build that breaks off leaves no mark.
  : >"$BUILT" && touch -r "$began" "$BUILT"
  rm -f "$began"
}

# A folder is newer than what was built of it also where a file was removed.
build_in_step() {
  [ -f "$BUILT" ] &&
    [ -z "$(find src scripts/build rolldown.config.ts package-lock.json -newer "$BUILT" -print -quit)" ]
}
