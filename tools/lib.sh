# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What the tools share; to be sourced.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() {
  printf '\n==> %s\n' "$*"
}

# limited SECONDS COMMAND...: whatever happens, the command has ended by then.
limited() {
  local seconds=$1
  shift
  spec/support/mpirun -t "$seconds" "$@"
}

# build DIRECTORY [OPTION...]: configure it, if need be with these options, and compile.
build() {
  local directory=$1
  shift
  if [ ! -f "$directory/build.ninja" ]; then
    limited 120 meson setup "$directory" --werror "$@" || return
  fi
  limited 300 meson compile -C "$directory"
}
