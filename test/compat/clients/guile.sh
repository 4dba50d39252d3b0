# GNU Guile: an interpreter that defines object kinds and mark procedures of its own, and needs every finalizer kind.
# stress: 1000
command -v guile >/dev/null || exit 77
exec guile --no-auto-compile -s "$SOURCES/guile.scm"
