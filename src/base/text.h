/* A line of text that is put together piece by piece, and cut off where it gets too long: messages, the trace.
 *
 * It lives where its owner has it, and takes no lock and no memory: also while the world is stopped. */
#ifndef MIDDEN_BASE_TEXT_H
#define MIDDEN_BASE_TEXT_H

#include <stddef.h>

#include "base/attr.h"

struct text {
  size_t length;
  char line[800]; /* ends with '\0' */
};

void text_add(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
