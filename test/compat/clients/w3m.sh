# w3m: a page with nested tables, formatted at two widths.
# stress: 1500
command -v w3m >/dev/null || exit 77
awk 'BEGIN {
  print "<html><head><title>midden</title></head><body><h1>A page</h1>"
  for (section = 1; section <= 60; section++) {
    printf "<h2>Section %d</h2><p>", section
    for (word = 0; word < 150; word++) printf "word%d %s ", word * section % 97, word % 11 ? "" : "<b>bold</b> &amp; <i>more</i>"
    print "</p><table border=1>"
    for (row = 0; row < 12; row++) {
      printf "<tr>"
      for (column = 0; column < 6; column++) printf "<td>%d &times; %d<td>%s</td>", row, column, row * column % 5 ? "x" : "<table border=1><tr><td>in<td>side</table>"
      print "</tr>"
    }
    print "</table><ul>"
    for (item = 0; item < 20; item++) printf "<li><a href=\"page%d.html\">item %d</a>\n", item, item
    print "</ul>"
  }
  print "</body></html>"
}' >page.html
for columns in 80 132; do w3m -T text/html -cols "$columns" -dump page.html; done
