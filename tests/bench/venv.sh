# Sourced by the benches: virtual environments of pinned packages under ~/.cache/lapidary, each made once.

# venv NAME "PINS" [GIVEN] prints the path of a Python that has these packages; GIVEN is an environment of the user's own, taken as
# it is.
venv() {
  local folder=${3:-$HOME/.cache/lapidary/$1}
  if [ -z "${3:-}" ] && [ "$(cat "$folder/pins" 2>/dev/null)" != "$2" ]; then
    # Pins are words of the shell.
    { python3 -m venv --clear "$folder" && "$folder/bin/pip" install -q $2; } >&2 || return 1
    echo "$2" > "$folder/pins"
  fi
  echo "$folder/bin/python"
}
