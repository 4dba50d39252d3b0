# GNU Guile with threads: stacks that move while another thread collects, threads that come and go.
# stress: 2000
# The stock library crashes now and then, wherever a collection falls between the move of a VM stack and that of its
# stack pointer (docs/drop-in.md); what is expected of it is one good run in ten.
# tries on stock: 10
command -v guile >/dev/null || exit 77
exec guile --no-auto-compile -s "$SOURCES/guile_threads.scm"
