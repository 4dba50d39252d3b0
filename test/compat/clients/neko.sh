# neko: a virtual machine that writes the collector's variables before it starts, and has roots of its own only.
# stress: 300
command -v neko >/dev/null && command -v nekoc >/dev/null || exit 77
cp "$SOURCES/neko.neko" program.neko
nekoc program.neko
exec neko program.n
