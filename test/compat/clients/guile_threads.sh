# GNU Guile with threads: stacks that move while another thread collects, threads that come and go.
# stress: 2000
# What it prints is compared with guile_threads.expect: the stock library hangs or crashes on this program, wherever a
# collection falls between the move of a VM stack and that of its stack pointer (docs/drop-in.md).
command -v guile >/dev/null || exit 77
exec guile --no-auto-compile -s "$SOURCES/guile_threads.scm"
