# Makes a toolchain of rustup the default one: $TOOLCHAIN, with $COMPONENTS and $TARGETS (lists, by commas or spaces). What
# this machine has is taken as it is; what is missing is installed.
set -euo pipefail

if [ -z "$TOOLCHAIN" ]; then
  echo "::error::the action needs the name of a toolchain"
  exit 1
fi
if ! command -v rustup > /dev/null; then
  echo "::error::there is no rustup in PATH: install it on this machine"
  exit 1
fi

list() { printf '%s\n' "$*" | tr ', ' '\n\n' | sed '/^$/d'; }

# Returns whether the toolchain is there with all that is asked for.
is_there() {
  RUSTUP_AUTO_INSTALL=0 rustup run "$TOOLCHAIN" rustc --version > /dev/null 2>&1 || return 1
  local installed component target
  installed=$(rustup component list --toolchain "$TOOLCHAIN" 2> /dev/null | grep ' (installed)$' || true)
  for component in $(list "$COMPONENTS"); do
    grep -q "^$component\(-preview\)\?\(-.*\)\? (installed)$" <<< "$installed" || return 1
  done
  for target in $(list "$TARGETS"); do
    grep -q "^rust-std-$target (installed)$" <<< "$installed" || return 1
  done
}

if is_there; then
  echo "$TOOLCHAIN is on this machine"
else
  arguments=()
  for component in $(list "$COMPONENTS"); do arguments+=(--component "$component"); done
  for target in $(list "$TARGETS"); do arguments+=(--target "$target"); done
  if [[ $TOOLCHAIN == nightly && -n "$COMPONENTS" ]]; then arguments+=(--allow-downgrade); fi
  rustup toolchain install "$TOOLCHAIN" --profile "${PROFILE:-minimal}" --no-self-update "${arguments[@]}"
fi
if [ "${DEFAULT:-true}" = true ]; then rustup default "$TOOLCHAIN" || true; fi
rustc "+$TOOLCHAIN" --version
