/* The engines that are compared: which worker, how it shall collect, and which file the loader shall take as
 * libgc.so.1. */
#ifndef BENCH_DRIVER_ENGINES_H
#define BENCH_DRIVER_ENGINES_H

#include <stdbool.h>

#include "driver/record.h"

struct engine {
  const char *name;        /* as on the command line and in the tables */
  const char *other_name;  /* on the command line, or NULL */
  const char *worker;      /* file name in the folder of workers */
  const char *mode;        /* "mode=...", an argument of the worker; NULL: its default */
  bool uses_libgc;         /* reaches its collector as libgc.so.1 */
  bool is_dropin;          /* that is midden's */
  const char *dropin_mode; /* MIDDEN_MODE of the worker; NULL: not set */
  const char *library_dir; /* where that lies; NULL: where the system has it */
  const char *package;     /* Debian's, without which the engine is not there; or NULL */
  bool selected;
  char program[4096];                  /* the worker's path */
  char description[RECORD_TEXT_BYTES]; /* the engine's own name and version */
  char library[RECORD_TEXT_BYTES];     /* the file that was loaded when it was probed */
};

enum { ENGINE_COUNT = 13, ENGINE_NAME_WIDTH = 17 };
extern struct engine engines[ENGINE_COUNT];

/* The engine of a name, or NULL. */
struct engine *engines_find(const char *name);

/* Whether an engine is in a list of names with commas. */
bool engines_listed(const char *list, const struct engine *engine);

/* Selects the engines of such a list, beside those that are selected.  0, or -EINVAL for a name that is none. */
int engines_select(const char *list);

/* The folder of the drop-in. */
void engines_set_dropin_dir(const char *dir);

/* Another folder for the library of all engines that use the installed one. */
void engines_set_stock_dir(const char *dir);

/* Looks for the workers of the selected engines in `worker_dir`, starts each once and notes which library it loaded.  An
 * engine that is not installed is deselected with a message.  0; -ENOENT where one of them is not installed and
 * `required`; -EINVAL where a worker fails, or where the loader took another library than the engine's. */
int engines_probe(const char *worker_dir, bool required);

#endif
