#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/bits.h"

void text_add(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text->line + text->length, sizeof text->line - text->length, format, arguments);
  va_end(arguments);
  if (length > 0) text->length = min_size(text->length + (size_t)length, sizeof text->line - 1);
}
