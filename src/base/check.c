#define _GNU_SOURCE 1
#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void (*check_fatal_hook)(const char *message);

/* One write, so that the lines of two threads do not mix; by the bare system call, since the C library's is a cancellation point, and
 * this thread may be in the middle of the collector. */
static void print_line(char *line, size_t capacity, const char *format, va_list arguments) {
  static const char prefix[] = "midden: ";
  memcpy(line, prefix, sizeof prefix - 1);
  int length = vsnprintf(line + sizeof prefix - 1, capacity - sizeof prefix - 1, format, arguments);
  size_t used = sizeof prefix - 1 + (length < 0 ? 0 : (size_t)length);
  if (used > capacity - 2) used = capacity - 2;
  line[used] = '\n';
  long written = syscall(SYS_write, STDERR_FILENO, line, used + 1);
  (void)written; /* nobody is left to tell */
  line[used] = '\0';
}

void warn(const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  print_line(line, sizeof line, format, arguments);
  va_end(arguments);
}

void fatal(const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  print_line(line, sizeof line, format, arguments);
  va_end(arguments);
  if (check_fatal_hook != NULL) check_fatal_hook(line);
  abort();
}
