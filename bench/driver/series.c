#include "driver/series.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/child.h"

enum { ARGUMENTS_MAX = 16, PARAMETERS_BYTES = 256 };

/* Cuts "name=value ..." into the worker's arguments, in a copy that lives as long as `text`. */
static void split_arguments(const struct plan_entry *entry, char *text, char **arguments) {
  int count = 0;
  arguments[count++] = (char *)entry->workload;
  snprintf(text, PARAMETERS_BYTES, "%s", entry->parameters);
  for (char *rest = text, *part; count < ARGUMENTS_MAX - 1 && (part = strsep(&rest, " ")) != NULL;) {
    if (*part != '\0') arguments[count++] = part;
  }
  arguments[count] = NULL;
}

/* The loader decides anew in each process which library it takes. */
static bool same_library(const struct engine *engine, const struct record *record) {
  if (strcmp(engine->library, record->library) == 0) return true;
  fprintf(stderr, "bench: %s loaded %s instead of %s\n", engine->name, record->library, engine->library);
  return false;
}

/* One run.  False where it failed; an engine that the workload is not for just becomes absent. */
static bool run_once(struct series *series, int engine, int repeat, unsigned timeout_s) {
  char text[PARAMETERS_BYTES];
  char *arguments[ARGUMENTS_MAX];
  split_arguments(series->entry, text, arguments);
  struct child child = {.engine = &engines[engine], .arguments = arguments, .timeout_s = timeout_s};
  enum child_end end = child_run(&child);
  if (end == CHILD_DONE && same_library(&engines[engine], &child.record)) {
    series->runs[engine][repeat] = child.record;
    return true;
  }
  series->present[engine] = false;
  return end == CHILD_NOT_APPLICABLE;
}

static bool run_repetition(struct series *series, int repeat, unsigned timeout_s) {
  bool good = true;
  for (int i = 0; i < ENGINE_COUNT; i++) {
    int engine = (i + repeat) % ENGINE_COUNT;
    if (series->present[engine]) good = run_once(series, engine, repeat, timeout_s) && good;
  }
  return good;
}

/* All runs that are there must have computed the same. */
static bool all_agree(const struct series *series) {
  bool known = false;
  double expected = 0, value;
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    for (int i = 0; series->present[engine] && i < series->repeats; i++) {
      if (!record_find(&series->runs[engine][i], "check", &value)) return false;
      if (known && value != expected) return false;
      known = true;
      expected = value;
    }
  }
  return true;
}

static int allocate_runs(struct series *series, const char *engine_list) {
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    series->present[engine] = engines[engine].selected && engines_listed(engine_list, &engines[engine]);
    series->runs[engine] = calloc((size_t)series->repeats, sizeof(struct record));
    if (series->runs[engine] == NULL) return -ENOMEM;
  }
  return 0;
}

int series_run(struct series *series, const struct plan_entry *entry, const char *engine_list, int repeats,
               unsigned timeout_s) {
  if (entry->repeats_max != 0 && repeats > entry->repeats_max) repeats = entry->repeats_max;
  *series = (struct series){.entry = entry, .repeats = repeats};
  if (allocate_runs(series, engine_list) != 0) return -ENOMEM;
  bool good = true;
  for (int repeat = 0; repeat < repeats; repeat++) good = run_repetition(series, repeat, timeout_s) && good;
  if (!all_agree(series)) {
    fprintf(stderr, "bench: %s %s: the engines computed different results\n", entry->workload, entry->parameters);
    good = false;
  }
  return good ? 0 : -EIO;
}

void series_free(struct series *series) {
  for (int engine = 0; engine < ENGINE_COUNT; engine++) free(series->runs[engine]);
}

static int compare_doubles(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static struct summary summarize(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare_doubles);
  double median = count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
  return (struct summary){.median = median, .low = values[0], .high = values[count - 1]};
}

bool series_summary(const struct series *series, int engine, const char *figure, struct summary *summary) {
  double values[REPEATS_MAX];
  if (!series->present[engine]) return false;
  for (int i = 0; i < series->repeats; i++) {
    if (!record_find(&series->runs[engine][i], figure, &values[i])) return false;
  }
  *summary = summarize(values, series->repeats);
  return true;
}

static bool is_rate(const char *figure) {
  size_t length = strlen(figure);
  return length > 6 && strcmp(figure + length - 6, "_per_s") == 0;
}

static double times_better(const char *figure, double ours, double theirs) {
  return is_rate(figure) ? ours / theirs : theirs / ours;
}

bool series_gain(const struct series *series, int engine, int baseline, const char *figure, struct summary *gain) {
  struct summary ours, theirs;
  if (!series_summary(series, engine, figure, &ours) || !series_summary(series, baseline, figure, &theirs))
    return false;
  if (ours.low <= 0 || theirs.low <= 0) return false;
  double pairs[REPEATS_MAX];
  for (int i = 0; i < series->repeats; i++) {
    double our_value = 0, their_value = 0;
    record_find(&series->runs[engine][i], figure, &our_value);
    record_find(&series->runs[baseline][i], figure, &their_value);
    pairs[i] = times_better(figure, our_value, their_value);
  }
  *gain = summarize(pairs, series->repeats);
  gain->median = times_better(figure, ours.median, theirs.median);
  return true;
}
