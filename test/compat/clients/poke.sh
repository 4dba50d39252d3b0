# GNU poke: a language with arrays, structures and closures over a file.
# stress: 1500
command -v poke >/dev/null || exit 77
awk 'BEGIN { for (n = 0; n < 6000; n++) printf "%c%c%c%c", 65 + n % 26, 97 + n % 13, 48 + n % 10, 32 }' >data
exec poke --quiet --no-init-file -L "$SOURCES/poke.pk"
