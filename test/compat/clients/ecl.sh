# ECL: a Lisp that marks with descriptors and finalizes in its own order.
# stress: 700
command -v ecl >/dev/null || exit 77
exec ecl --norc --shell "$SOURCES/ecl.lsp"
