#include "observe/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/text.h"
#include "gc/collector.h"
#include "observe/check.h"
#include "observe/trace_file.h"
#include "os/os.h"

static bool prints; /* constant after start */

/* A number with a point, whatever the program's locale has in its place. */
struct figure {
  char text[32];
};

static struct figure figure_of(uint64_t value, uint64_t unit, int places) {
  struct figure figure;
  uint64_t scale = 1;
  for (int i = 0; i < places; i++) scale *= 10;
  uint64_t parts = (value % unit * scale + unit / 2) / unit; /* rounded: they may be a whole one */
  snprintf(figure.text, sizeof figure.text, "%" PRIu64 ".%0*" PRIu64, value / unit + parts / scale, places,
           parts % scale);
  return figure;
}

static struct figure mib(size_t bytes) { return figure_of(bytes, 1 << 20, 1); }
static struct figure ms(uint64_t ns) { return figure_of(ns, 1000000, 3); }
static struct figure seconds(uint64_t ns) { return figure_of(ns, 1000000000, 3); }

/* Nothing where check mode is off. */
static void add_check(struct text *text, const struct collector_report *report) {
  if (collector_checker == NULL) return;
  text_add(text, "; check %s ms, %zu suspects", ms(report->check_ns).text, atomic_load_relaxed(&check_suspects));
}

/* How long the program stood still. */
static void add_stopped(struct text *text, const struct collector_report *report) {
  text_add(text, "pause %s ms (stop %s, roots %s, mark %s, finish %s)", ms(report->pause_ns).text,
           ms(report->stop_ns).text, ms(report->roots_ns).text, ms(report->mark_ns).text, ms(report->finish_ns).text);
}

/* The stop at the end of dirty-page mode, and what made it short. */
static void add_stop_at_end(struct text *text, const struct collector_report *report) {
  if (report->joined != 0) text_add(text, ", %zu huge pages joined", report->joined);
  if (report->ahead_ns != 0) text_add(text, ", pause for calls %s ms", ms(report->ahead_ns).text);
  text_add(text, ", slowed %zu times, pause %s ms for %s MiB written", report->rests, ms(report->pause_ns).text,
           mib(report->written_bytes).text);
  if (report->left_ns != 0) text_add(text, ", then %s ms for finalizers", ms(report->left_ns).text);
}

/* What the program noticed. */
static void add_beside(struct text *text, const struct collector_report *report) {
  if (report->minor) text_add(text, "minor, ");
  text_add(text,
           "beside the program %s ms (scan %s, roots %s, mark %s in %u rounds, finish %s), gate %s ms, "
           "assists %s MiB in %s ms",
           ms(report->resume_ns - report->stop_start_ns).text, ms(report->stop_ns).text, ms(report->roots_ns).text,
           ms(report->mark_ns).text, report->rounds, ms(report->finish_ns).text, ms(report->gate_ns).text,
           mib(report->assisted_bytes).text, ms(report->assist_ns).text);
  if (report->pause_ns != 0) add_stop_at_end(text, report);
}

static void print_cycle(const struct collector_report *report) {
  const size_t *by = report->swept.swept_pages;
  struct text marking = {.length = 0}, check = {.length = 0};
  (report->concurrent ? add_beside : add_stopped)(&marking, report);
  add_check(&check, report);
  warn(
      "gc %llu @%ss: live %s -> %s MiB (%s scanned), goal %s MiB, %s, sweep %s+%s ms, cpu %s ms, "
      "%u markers, objects %zu, threads %zu/%zu, finalizers %zu, reason %s, put off %llu; "
      "before: %zu pages swept by cycle %zu, allocation %zu, free %zu, reclaim %zu, background %zu, debt %zu, "
      "next cycle %zu; %zu freed%s",
      (unsigned long long)report->number, seconds(report->start_ns).text, mib(report->live_before_bytes).text,
      mib(report->marked_bytes).text, mib(report->marked_scanned_bytes).text, mib(report->goal_bytes).text,
      marking.line, ms(report->sweep_before_ns).text, ms(report->sweep_after_ns).text, ms(report->cpu_ns).text,
      report->markers, report->marked_objects, report->signalled, report->threads, report->finalizers_ready,
      collector_reason_name(report->reason), (unsigned long long)report->limit_yields, report->swept.begun_pages,
      by[SWEEPER_COLLECTOR], by[SWEEPER_ALLOCATION], by[SWEEPER_FREE], by[SWEEPER_RECLAIM], by[SWEEPER_BACKGROUND],
      by[SWEEPER_DEBT], by[SWEEPER_NEXT_CYCLE], report->swept.freed_pages, check.line);
}

void trace_scavenge(const struct scavenger_report *report) {
  bool has_goal = report->goal_bytes != SIZE_MAX;
  warn(
      "scavenge %llu @%ss: released %s MiB (%zu huge pages, %s MiB for its age), resident %s -> %s MiB, "
      "goal %s MiB, cpu %s ms in %s s%s",
      (unsigned long long)report->number, seconds(report->start_ns - collector_start_ns()).text,
      mib(report->released_bytes).text, report->huge_pages, mib(report->old_bytes).text,
      mib(report->resident_before_bytes).text, mib(report->resident_after_bytes).text,
      mib(has_goal ? report->goal_bytes : 0).text, ms(report->cpu_ns).text, seconds(report->elapsed_ns).text,
      report->refused ? ", refused by the system" : "");
}

void trace_release(uint64_t start_ns, size_t released_bytes, const struct pageheap_stats *after) {
  if (!prints) return;
  size_t resident_bytes = after->in_use_bytes + after->stack_bytes + pageheap_stats_idle_resident(after);
  warn("release @%ss: released %s MiB at once, resident %s MiB, %s ms", seconds(start_ns - collector_start_ns()).text,
       mib(released_bytes).text, mib(resident_bytes).text, ms(os_now_ns() - start_ns).text);
}

static void report_cycle(const struct collector_report *report) {
  if (prints) print_cycle(report);
  trace_file_cycle(report);
}

void trace_init(bool lines, const char *file) {
  prints = lines;
  int error = file != NULL ? trace_file_open(file) : 0;
  if (error != 0) warn("the trace file %s cannot be made: %s", file, strerror(-error));
  if (lines || file != NULL) collector_reporter = report_cycle;
}
