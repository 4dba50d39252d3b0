/* The library's options as a table that a program can walk: midden/options.h at run time.
 *
 * `midden run` makes its command line options from it, and tools/make_options_doc.c the lists in docs/ and man/. */
#ifndef CLI_OPTION_TABLE_H
#define CLI_OPTION_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum option_type { OPTION_SIZE, OPTION_COUNT, OPTION_PERCENT, OPTION_SWITCH, OPTION_WORDS, OPTION_PATH };

struct option_row {
  const char *field;    /* of struct midden_options */
  const char *variable; /* of the environment */
  enum option_type type;
  long low, high;       /* of COUNT, PERCENT and SWITCH */
  const char *standard; /* what holds where nothing is said */
  const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_row_count;

enum { OPTION_NAME_BYTES = 40 };

/* "memory-limit" for MIDDEN_MEMORY_LIMIT. */
void option_name(const struct option_row *row, char name[OPTION_NAME_BYTES]);

/* Whether it is either on or off: then its value may be left out, which means 1. */
bool option_is_switch(const struct option_row *row);

/* What stands for its value in a usage line. */
const char *option_placeholder(const struct option_row *row);

#endif
