# GNU Guile with threads: stacks that move while another thread collects, threads that come and go.
# stress: 2000
# What it prints is compared with guile_threads.expect: the stock library hangs or crashes on this program, wherever a
# collection falls between the move of a VM stack and that of its stack pointer (docs/drop-in.md).
command -v guile >/dev/null || exit 77

# Guile before 3.0.9 may also sleep for ever in lock-mutex, when a collection falls there: rare, and as it is with the stock
# library, so such a Guile that hangs is tried again.
version=$(env -i PATH="$PATH" guile -c '(display (version))') # on the stock library
oldest=$(printf '%s\n3.0.9\n' "$version" | sort -V | head -n 1)
tries=1
[ "$oldest" = 3.0.9 ] || tries=3
while :; do
  status=0
  timeout --kill-after=1 60 guile --no-auto-compile -s "$SOURCES/guile_threads.scm" >printed || status=$?
  tries=$((tries - 1))
  [ "$status" -eq 124 ] && [ "$tries" -ne 0 ] || break
  echo "guile $version hangs: once more" >&2
done
cat printed
exit "$status"
