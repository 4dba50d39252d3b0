/* The GC_* environment variables of libgc, as far as they mean something here.
 *
 * Those that stand for a variable are stored there, where the program can read and overwrite them; those that size the
 * heap become midden's options.  MIDDEN_* variables are read by midden itself and win.
 *
 * libgc reads them when it is started: what a program sets before is overruled, what it sets later is not.  midden starts when it is
 * loaded, before the program can set anything; so the program's GC_init, if it comes before all allocation, does it again. */
#include <errno.h>
#include <stdlib.h>

#include "shim.h"

enum { ENVIRONMENT_LARGE_HEAP = 4 << 20, ENVIRONMENT_MARKERS_MAX = 64 };

/* A size with an optional suffix k, m or g; 0 where it is malformed. */
static size_t environment_size(const char *name) {
  const char *text = getenv(name);
  char *end;
  if (!text || !*text) return 0;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  bool is_number = *text >= '0' && *text <= '9' && errno == 0;
  unsigned shift = 0;
  switch (*end) {
    case 'k':
    case 'K':
      shift = 10;
      break;
    case 'm':
    case 'M':
      shift = 20;
      break;
    case 'g':
    case 'G':
      shift = 30;
      break;
  }
  if (shift) end++;
  bool fits = value <= SIZE_MAX >> shift;
  if (!is_number || *end || !fits) {
    report_warning("An environment variable holds a malformed size - ignoring it\n", 0);
    return 0;
  }
  return (size_t)value << shift;
}

/* A number of at least `least`, or `otherwise`. */
static long environment_number(const char *name, long least, long otherwise) {
  const char *text = getenv(name);
  if (!text) return otherwise;
  long value = atol(text);
  return value >= least ? value : otherwise;
}

static void environment_read_variables(void) {
  if (getenv("GC_DONT_GC")) GC_dont_gc = 1;
  if (getenv("GC_FIND_LEAK")) GC_find_leak = 1;
  if (getenv("GC_ALL_INTERIOR_POINTERS")) GC_all_interior_pointers = 1;
  if (getenv("GC_USE_ENTIRE_HEAP")) GC_use_entire_heap = 1;
  GC_free_space_divisor = (GC_word)environment_number("GC_FREE_SPACE_DIVISOR", 1, (long)GC_free_space_divisor);
  GC_full_freq = (int)environment_number("GC_FULL_FREQUENCY", 1, GC_full_freq);
  GC_time_limit = (unsigned long)environment_number("GC_PAUSE_TIME_TARGET", 5, (long)GC_time_limit);
  GC_set_force_unmap_on_gcollect(
      (int)environment_number("GC_FORCE_UNMAP_ON_GCOLLECT", 0, GC_get_force_unmap_on_gcollect()));
}

static size_t environment_max_heap; /* 0: not given */
static unsigned environment_markers;

/* An empty variable is as good as none. */
static bool environment_has(const char *name) {
  const char *text = getenv(name);
  return text && *text;
}

void environment_read(struct midden_options *options) {
  environment_read_variables();
  options->percent = config_percent(GC_free_space_divisor);
  options->initial_heap_bytes = environment_size("GC_INITIAL_HEAP_SIZE");
  /* A heap that started large stays large. */
  if (options->initial_heap_bytes > ENVIRONMENT_LARGE_HEAP) options->min_heap_bytes = options->initial_heap_bytes;
  options->max_heap_bytes = environment_size("GC_MAXIMUM_HEAP_SIZE");
  long markers = environment_number("GC_MARKERS", 1, environment_number("GC_NPROCS", 1, 0));
  /* As libgc does; midden takes none of the options where one is out of range. */
  options->markers = (unsigned)(markers < ENVIRONMENT_MARKERS_MAX ? markers : ENVIRONMENT_MARKERS_MAX);
  environment_max_heap = options->max_heap_bytes;
  environment_markers = options->markers;
  options->idle_collect_ms = -1; /* callbacks expect the program's own threads */
  options->trace = getenv("GC_PRINT_STATS") ? 1 : 0;
}

void environment_overrule(void) {
  environment_read_variables();
  if (environment_max_heap && !environment_has("MIDDEN_MAX_HEAP")) GC_set_max_heap_size(environment_max_heap);
  if (environment_markers && !environment_has("MIDDEN_MARKERS")) GC_set_markers_count(environment_markers);
}
