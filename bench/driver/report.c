#include "driver/report.h"

#include <string.h>

/* The figures of the tables, in their order; the JSON has all others, too. */
static const struct column {
  const char *figure;
  bool compared; /* in the table of gains */
} columns[] = {
    {"object_cpu_ns", true},   {"object_ns", false},      {"collect_s", true},
    {"mobjects_per_s", false}, {"marked_per_s", true},    {"ops_per_s", true},
    {"stores_per_s", false},   {"wall_s", true},          {"cpu_s", true},
    {"peak_rss_mib", true},    {"collections", false},    {"pause_max_ms", true},
    {"pause_total_ms", true},  {"p50_us", false},         {"p999_us", true},
    {"p9999_us", false},       {"worst_us", true},        {"operation_p999_us", false},
    {"late_p999_us", false},   {"late_max_us", true},     {"delay_count", false},
    {"delay_p50_us", false},   {"delay_p99_us", false},   {"delay_p999_us", false},
    {"delay_max_us", false},   {"delay_total_ms", false}, {"waited_ms", false},
    {"worked_ms", false},      {"descheduled_ms", false}, {"caused_count", false},
    {"caused_p50_us", false},  {"caused_p99_us", false},  {"caused_p999_us", true},
    {"caused_max_us", true},   {"own_max_us", true},      {"caused_total_ms", false},
    {"net_p999_us", false},    {"net_max_us", true},      {"net_total_ms", false},
    {"caused_100us", false},   {"caused_1ms", false},     {"caused_10ms", false},
    {"caused_100ms", false},   {"pauses_10us", false},    {"pauses_100us", false},
    {"pauses_1ms", false},     {"pauses_10ms", false},    {"pauses_100ms", false},
};
enum { COLUMN_COUNT = sizeof columns / sizeof columns[0], BLOCK_COLUMNS = 10, CELL_BYTES = 40 };

/* Digits after the point, for about three that count. */
static int digits_of(double value) {
  int digits = 2;
  for (double unit = 1; value > 0 && value < unit && digits < 6; unit /= 10) digits++;
  return value >= 100 ? 0 : value >= 10 ? 1 : digits;
}

static void format_range(char *cell, const struct summary *summary) {
  int digits = digits_of(summary->median);
  snprintf(cell, CELL_BYTES, "%.*f..%.*f", digits, summary->low, digits, summary->high);
}

static bool any_engine_has(const struct series *series, const char *figure) {
  struct summary summary;
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (series_summary(series, engine, figure, &summary)) return true;
  }
  return false;
}

/* The figures that a table shows: those of a workload, as many as fit below each other. */
struct block {
  const char *figures[BLOCK_COLUMNS];
  int count;
};

/* The block that begins at column *next, which moves behind it; empty where nothing is left. */
static struct block next_block(const struct series *series, int *next) {
  struct block block = {.count = 0};
  for (; *next < COLUMN_COUNT && block.count < BLOCK_COLUMNS; (*next)++) {
    if (any_engine_has(series, columns[*next].figure)) block.figures[block.count++] = columns[*next].figure;
  }
  return block;
}

static void print_heading(const struct block *block) {
  printf("  %-*s", ENGINE_NAME_WIDTH, "engine");
  for (int i = 0; i < block->count; i++) printf(" %15s", block->figures[i]);
  printf("\n");
}

static void print_cell(const struct series *series, int engine, const char *figure, bool range) {
  char cell[CELL_BYTES] = "-";
  struct summary summary;
  if (!series_summary(series, engine, figure, &summary)) {
    if (range) cell[0] = '\0';
  } else if (range) {
    format_range(cell, &summary);
  } else {
    snprintf(cell, sizeof cell, "%.*f", digits_of(summary.median), summary.median);
  }
  printf(" %15s", cell);
}

static void print_line(const struct series *series, int engine, const struct block *block, bool range) {
  printf("  %-*s", ENGINE_NAME_WIDTH, range ? "" : engines[engine].name);
  for (int i = 0; i < block->count; i++) print_cell(series, engine, block->figures[i], range);
  printf("\n");
}

static void print_block(const struct series *series, const struct block *block) {
  print_heading(block);
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (!series->present[engine]) continue;
    print_line(series, engine, block, false);
    if (series->repeats > 1) print_line(series, engine, block, true);
  }
}

static bool any_present(const struct series *series) {
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (series->present[engine]) return true;
  }
  return false;
}

void report_series(const struct series *series) {
  const char *runs = series->repeats > 1 ? "runs: median, range below" : "run";
  printf("\n%s %s (%d %s)\n", series->entry->workload, series->entry->parameters, series->repeats, runs);
  if (!any_present(series)) {
    printf("  no engine finished it\n");
    return;
  }
  for (int next = 0; next < COLUMN_COUNT;) {
    struct block block = next_block(series, &next);
    if (block.count != 0) print_block(series, &block);
  }
  fflush(stdout);
}

static bool is_compared(int engine, int baseline) { return engine != baseline && engines[engine].selected; }

static void print_gain(const struct series *series, int engine, int baseline, const char *figure) {
  struct summary gain;
  char cell[CELL_BYTES] = "-";
  if (series_gain(series, engine, baseline, figure, &gain)) {
    char range[CELL_BYTES];
    format_range(range, &gain);
    snprintf(cell, sizeof cell, "%.*f (%.24s)", digits_of(gain.median), gain.median, range);
  }
  printf(" %24s", cell);
}

static bool any_gain(const struct series *series, int baseline, const char *figure) {
  struct summary gain;
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (is_compared(engine, baseline) && series_gain(series, engine, baseline, figure, &gain)) return true;
  }
  return false;
}

static void print_gains_of(const struct series *series, int baseline) {
  char title[64];
  snprintf(title, sizeof title, "%s %s", series->entry->workload, series->entry->parameters);
  for (int i = 0; i < COLUMN_COUNT; i++) {
    if (!columns[i].compared || !any_gain(series, baseline, columns[i].figure)) continue;
    printf("%-60s %-15s", title, columns[i].figure);
    title[0] = '\0';
    for (int engine = 0; engine < ENGINE_COUNT; engine++) {
      if (is_compared(engine, baseline)) print_gain(series, engine, baseline, columns[i].figure);
    }
    printf("\n");
  }
}

static bool any_gains(const struct series *series, int count, int baseline) {
  for (int i = 0; i < count; i++) {
    for (int engine = 0; engine < ENGINE_COUNT; engine++) {
      if (engine != baseline && series[i].present[baseline] && series[i].present[engine]) return true;
    }
  }
  return false;
}

void report_gains(const struct series *series, int count, int baseline) {
  if (!any_gains(series, count, baseline)) return;
  printf("\nTimes better than %s, ratio of medians (range of the pairs); below 1 is worse\n%-76s",
         engines[baseline].name, "");
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (is_compared(engine, baseline)) printf(" %24s", engines[engine].name);
  }
  printf("\n");
  for (int i = 0; i < count; i++) {
    if (series[i].present[baseline]) print_gains_of(&series[i], baseline);
  }
}
