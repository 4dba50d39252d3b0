/* A program linked to libgc.so.1 for the tests of `midden run`: says what it was given, and ends as it is told.
 *
 *   probe library             the real path of the library that its collector's code came from
 *   probe environment NAME    the variable's value
 *   probe arguments ...       each on a line of its own
 *   probe collect             nothing, but collects
 *   probe exit STATUS         ends with that status
 *   probe signal NUMBER       ends by that signal
 *   probe handling NUMBER     what it was given for that signal: "ignored" or "default" */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gc/gc.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_library(void) {
  Dl_info info;
  char path[PATH_MAX];
  if (GC_malloc(16) == NULL || dladdr(dlsym(RTLD_DEFAULT, "GC_malloc"), &info) == 0) return 1;
  if (realpath(info.dli_fname, path) == NULL) return 1;
  puts(path);
  return 0;
}

static int print_variable(const char *name) {
  const char *value = getenv(name);
  puts(value != NULL ? value : "(not set)");
  return 0;
}

static int print_handling(int number) {
  struct sigaction action;
  if (sigaction(number, NULL, &action) != 0) return 1;
  puts(action.sa_handler == SIG_IGN ? "ignored" : action.sa_handler == SIG_DFL ? "default" : "handled");
  return 0;
}

static int collect(void) {
  GC_gcollect();
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "library") == 0) return print_library();
  if (argc == 2 && strcmp(argv[1], "collect") == 0) return collect();
  if (argc == 3 && strcmp(argv[1], "environment") == 0) return print_variable(argv[2]);
  if (argc == 3 && strcmp(argv[1], "exit") == 0) return atoi(argv[2]);
  if (argc == 3 && strcmp(argv[1], "signal") == 0) return raise(atoi(argv[2]));
  if (argc == 3 && strcmp(argv[1], "handling") == 0) return print_handling(atoi(argv[2]));
  if (argc < 2 || strcmp(argv[1], "arguments") != 0) return 99;
  for (int i = 2; i < argc; i++) puts(argv[i]);
  return 0;
}
