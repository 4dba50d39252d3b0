/* Messages: warnings, memory shortage, the last words of a process, and libgc's printf functions.
 *
 * They are written by the bare system call: the C library's is a cancellation point, and libgc's allocators are none. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

enum { REPORT_MAX = 512 };

static int report_fd = STDERR_FILENO;

static void report_write(int fd, const char *text, size_t bytes) {
  while (bytes > 0) {
    long written = syscall(SYS_write, fd, text, bytes);
    if (written <= 0) return;
    text += written;
    bytes -= (size_t)written;
  }
}

/* ---- warnings ---- */

static void report_default_warning(char *format, GC_word argument) {
  char text[REPORT_MAX];
  static const char start[] = "GC Warning: ";
  memcpy(text, start, sizeof(start));
  snprintf(text + sizeof(start) - 1, sizeof(text) - sizeof(start) + 1, format, argument);
  report_write(STDERR_FILENO, text, strlen(text));
}

static GC_warn_proc report_warn_proc = report_default_warning; /* atomic */

void report_warning(const char *format, GC_word argument) {
  GC_warn_proc function = __atomic_load_n(&report_warn_proc, __ATOMIC_ACQUIRE);
  function((char *)(uintptr_t)format, argument);
}

void GC_set_warn_proc(GC_warn_proc function) { __atomic_store_n(&report_warn_proc, function, __ATOMIC_RELEASE); }
GC_warn_proc GC_get_warn_proc(void) { return __atomic_load_n(&report_warn_proc, __ATOMIC_ACQUIRE); }

void GC_ignore_warn_proc(char *format, GC_word argument) {
  (void)format;
  (void)argument;
}

/* ---- memory shortage ---- */

static void *report_no_memory(size_t bytes) {
  (void)bytes;
  return NULL;
}

GC_oom_func GC_oom_fn = report_no_memory;

void GC_set_oom_fn(GC_oom_func function) { GC_oom_fn = function; }
GC_oom_func GC_get_oom_fn(void) { return GC_oom_fn; }

/* Where there was none to attach the thread, it cannot ask for figures. */
static void report_shortage(void) {
  if (midden_thread_is_attached())
    report_warning("Out of Memory! Heap size: %lu MiB. Returning NULL!\n", GC_get_heap_size() >> 20);
  else
    report_warning("Out of Memory! A thread cannot be registered. Returning NULL!\n", 0);
}

void *report_out_of_memory(size_t bytes) {
  GC_oom_func function = GC_oom_fn;
  if (function == report_no_memory) report_shortage();
  return function(bytes);
}

/* ---- the end of the process ---- */

/* midden prints its own messages; this is for those of the drop-in. */
static void report_default_abort(const char *message) {
  if (!message) return;
  report_write(STDERR_FILENO, message, strlen(message));
  report_write(STDERR_FILENO, "\n", 1);
}

GC_abort_func GC_on_abort = report_default_abort;

static void report_fatal_hook(const char *message) {
  GC_abort_func function = GC_on_abort;
  if (function && function != report_default_abort) function(message);
}

void GC_set_abort_func(GC_abort_func function) {
  GC_on_abort = function;
  midden_set_fatal_hook(report_fatal_hook);
}
GC_abort_func GC_get_abort_func(void) { return GC_on_abort; }

void report_fatal(const char *message) {
  GC_abort_func function = GC_on_abort;
  if (function) function(message);
  abort();
}

/* GC_on_abort hears of it without a message, as in libgc. */
void GC_abort_on_oom(void) {
  GC_err_printf("libgc: memory has run out\n");
  GC_abort_func function = GC_on_abort;
  if (function) function(NULL);
  exit(1);
}

/* ---- printing ---- */

void GC_set_log_fd(int fd) { report_fd = fd; }

static void report_vprint(int fd, const char *format, va_list arguments) {
  char text[REPORT_MAX];
  vsnprintf(text, sizeof(text), format, arguments);
  report_write(fd, text, strlen(text));
}

void GC_printf(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report_vprint(STDOUT_FILENO, format, arguments);
  va_end(arguments);
}

void GC_err_printf(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report_vprint(STDERR_FILENO, format, arguments);
  va_end(arguments);
}

void GC_log_printf(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report_vprint(report_fd, format, arguments);
  va_end(arguments);
}
