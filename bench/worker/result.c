#include "worker/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static char line[8192];
static size_t used;

__attribute__((format(printf, 1, 2))) static void append(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line + used, sizeof line - used, format, arguments);
  va_end(arguments);
  if (length < 0 || (size_t)length >= sizeof line - used) {
    fprintf(stderr, "result: the line is too long\n");
    exit(1);
  }
  used += (size_t)length;
}

static void append_name(const char *name) { append("%s\"%s\":", used == 0 ? "{" : ",", name); }

void result_text(const char *name, const char *text) {
  append_name(name);
  append("\"");
  for (; *text != '\0'; text++) {
    append(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
  }
  append("\"");
}

void result_number(const char *name, double value) {
  append_name(name);
  append("%.9g", value);
}

void result_print(void) {
  append("%s}", used == 0 ? "{" : "");
  puts(line);
}
