#include "option_table.h"

#include <ctype.h>
#include <string.h>

#include "midden/options.h"

#define ROW(field, variable, type, low, high, standard, help) \
  {#field, variable, OPTION_##type, low, high, standard, help},
const struct option_row option_rows[] = {MIDDEN_OPTIONS(ROW)};
const size_t option_row_count = sizeof option_rows / sizeof option_rows[0];

void option_name(const struct option_row *row, char name[OPTION_NAME_BYTES]) {
  const char *from = row->variable + strlen("MIDDEN_");
  size_t length = 0;
  for (; from[length] != '\0' && length < OPTION_NAME_BYTES - 1; length++)
    name[length] = from[length] == '_' ? '-' : (char)tolower((unsigned char)from[length]);
  name[length] = '\0';
}

bool option_is_switch(const struct option_row *row) {
  return row->type == OPTION_SWITCH || (row->type == OPTION_COUNT && row->low == 0 && row->high == 1);
}

const char *option_placeholder(const struct option_row *row) {
  switch (row->type) {
    case OPTION_SIZE:
      return "SIZE";
    case OPTION_PERCENT:
      return "N|off";
    case OPTION_WORDS:
      return "WORDS";
    case OPTION_PATH:
      return "PATH";
    case OPTION_COUNT:
    case OPTION_SWITCH:
      break;
  }
  return option_is_switch(row) ? "0|1" : "N";
}
