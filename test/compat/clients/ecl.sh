# ECL: a Lisp that marks with descriptors and finalizes in its own order.
# stress: 1500
command -v ecl >/dev/null || exit 77
exec ecl --norc --shell "$SOURCES/ecl.lsp"
